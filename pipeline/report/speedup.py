"""How much faster caching makes clips, over pairs of clips and controls, and why no more."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.report.bootstrap import ratio_of_sums
from pipeline.report.document import Speedup
from pipeline.report.pairs import (
    ComparedPairs,
    clip_wall,
    comparable,
    control_fraction,
    few,
    few_calls,
)
from pipeline.report.rows import Mask, RowRoles, Rows

Places = npt.NDArray[np.int64]

NEAR = 0.9
"""A speed-up of so large a share of steps / evaluations needs no reason."""


def measure_speedup(rows: Rows, pairs: ComparedPairs, *, controls_to_come: bool = False) -> Speedup:
    """Measure control seconds / cached seconds over the comparable pairs.

    Args:
        rows: Of the prefix.
        pairs: Their pairs.
        controls_to_come: Whether the latest run is not finished and was to make controls.
    """
    keep, left_out = comparable(rows, pairs)
    wall, count = rows.known("wall_s")[pairs.controls], int(keep.sum())
    if not count:
        wanted = control_fraction(int(np.count_nonzero(RowRoles.of(rows).clips)))
        note = f"no controls: run with --control-fraction {wanted:g} to measure it"
        none_yet = controls_to_come and not len(pairs.clips)
        if none_yet:
            note = "no pair yet: the run, or the same command again, makes the other controls"
        elif left_out:
            note = "no pair can be compared: see what was left out"
        return Speedup(pairs=0, left_out=left_out, ratio=None, note=note, controls_to_come=none_yet)
    calls = _calls(rows, pairs, keep)
    above, below = (
        np.bincount(calls, seconds[keep]).astype(np.float64)  # numpy's types say whole numbers
        for seconds in (wall, clip_wall(rows, pairs))
    )
    ratio = ratio_of_sums(above, below)
    note = few(count) if len(above) == count else few_calls(len(above), count)
    steps_ratio, shares = _not_cached(rows, pairs, keep)
    return Speedup(
        pairs=count,
        calls=len(above),
        left_out=left_out,
        ratio=ratio,
        note=note,
        steps_ratio=steps_ratio,
        not_cached=shares,
        why=_why(ratio.value, steps_ratio, shares),
    )


def _calls(rows: Rows, pairs: ComparedPairs, keep: Mask) -> Places:
    """Number the measurements of time that pairs rest on.

    The samples of an engine call share its time, so pairs of one call are one measurement. Where
    clips and controls were called in groups of other sizes, those of the fewer calls count.
    """
    codes, _ = rows.codes("worker_id")
    again = rows.known("clip_wall_s")[pairs.controls] > 0
    sides = []
    for at in (pairs.controls[keep], np.where(again, pairs.controls, pairs.clips)[keep]):
        alone = rows.known("batch_rows")[at] <= 1
        own = np.where(alone, np.arange(len(at)), -1)
        key = np.stack([codes[at], rows.known("wall_s")[at], own])
        sides.append(np.unique(key, axis=1, return_inverse=True)[1].reshape(-1))
    return np.asarray(min(sides, key=np.max), np.int64)


def _not_cached(
    rows: Rows, pairs: ComparedPairs, keep: Mask
) -> tuple[float | None, dict[str, float]]:
    """Steps / evaluations of compared clips, and shares of their time that caching leaves alone.

    What an evaluation takes follows from what control and clip differ in. The rest of the time of
    denoising is what steps take beside the network: the sampler, forecasts and bookkeeping.
    """
    clips, controls = pairs.clips[keep], pairs.controls[keep]
    made_once = rows.known("clip_wall_s")[controls] == 0  # of others, no parts of the time are kept
    clips, controls = clips[made_once], controls[made_once]

    def total(name: str, of: Places) -> float:
        return float(rows.known(name)[of].sum())

    nfe, every = total("nfe", clips), total("nfe", controls)
    wall_s = total("wall_s", clips)
    if not (0 < nfe < every and wall_s > 0):
        return None, {}
    text_s, decode_s = total("text_s", clips), total("decode_s", clips)
    steps_s = wall_s - text_s - decode_s
    all_steps_s = sum(
        sign * total(name, controls)
        for name, sign in (("wall_s", 1.0), ("text_s", -1.0), ("decode_s", -1.0))
    )
    network_s = min(max((all_steps_s - steps_s) / (every - nfe) * nfe, 0.0), steps_s)
    seconds = {
        "text encoding": text_s,
        "decoding": decode_s,
        "sampler steps beside the network": steps_s - network_s,
    }
    return every / nfe, {name: max(s, 0.0) / wall_s for name, s in seconds.items()}


def _why(ratio: float, steps_ratio: float | None, shares: Mapping[str, float]) -> str:
    """Say why a speed-up is smaller than the ratio of steps; "" where it is not."""
    if steps_ratio is None or ratio >= NEAR * steps_ratio:
        return ""
    each = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.005)
    return (
        f"the evaluations that were saved would make it {steps_ratio:.1f} times, but caching does "
        f"not shorten the rest of a clip's time: {each}"
    )
