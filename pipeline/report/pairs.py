"""Compares clips with their uncached controls: which pairs there are, and their quality.

The speed-up (`pipeline.report.speedup`) counts pairs that share run, device type, group size and
batch size. It leaves out pairs with a clip of the first call of its process, because that call
includes warm-up. Quality was measured when both clips were made. Where an interruption split a
pair, the clip was made again beside its control (`pipeline.attempts.samples_again`), and its time
then is compared. The report counts the pairs that are left out, by reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.bootstrap import FEW, mean
from pipeline.report.rows import Floats, Mask, RowRoles, Rows, kinds
from pipeline.report.tables.document import Quality
from pipeline.report.tables.mixture import Mixture
from pipeline.wording import counted, is_too_much

_FULL = "controls are unquantised, so what quantised weights cost is measured too, and not promised"

WARM_UP = "in the first call of a process (warm-up)"
"""Why a pair is left out that had a slow call."""

BY_CLIP = {"paper", "official"}
"""Policies whose rule decides at each step of each clip."""

MOST_BANDS = 4

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ComparedPairs:
    """Positions of clips and of their controls; both are ok and count.

    Attributes:
        clips: Rows of cached clips.
        controls: Rows of their controls, in the same order.
        lone: Number of controls whose clip is missing or not ok.
    """

    clips: Places
    controls: Places
    lone: int

    @classmethod
    def find(cls, rows: Rows, roles: RowRoles) -> ComparedPairs:
        """Match the controls of a prefix with their clips."""
        controls, clips = np.flatnonzero(roles.controls), np.flatnonzero(roles.clips)
        twin_of = rows.table["control_of"].take(pa.array(controls)).combine_chunks()
        ids = rows.table["sample_id"].take(pa.array(clips)).combine_chunks()
        at = pc.index_in(twin_of, value_set=ids)
        there = np.asarray(at.is_valid())
        found = at.drop_null().to_numpy().astype(np.int64)
        return cls(clips[found], controls[there], int((~there).sum()))


def comparable(rows: Rows, pairs: ComparedPairs) -> tuple[Mask, dict[str, int]]:
    """Return which pairs may be compared in time, and the number left out for each reason."""
    keep = np.ones(len(pairs.clips), np.bool_)
    left_out: dict[str, int] = {}

    def drop(mask: Mask, reason: str) -> None:
        nonlocal keep
        if (keep & mask).any():
            left_out[reason] = int((keep & mask).sum())
        keep &= ~mask

    # A clip that was made again was made by the process of its control.
    beside = rows.known("clip_wall_s")[pairs.controls] == 0
    for column, reason in (("run_id", "of two runs"), ("device_name", "on two kinds of devices")):
        codes, _ = rows.codes(column)
        drop(beside & (codes[pairs.clips] != codes[pairs.controls]), reason)
    for column, reason in (
        ("group_size", "in groups of two sizes"),
        ("batch_rows", "in calls of two batch sizes"),
    ):
        values = rows.known(column)
        drop(beside & (values[pairs.clips] != values[pairs.controls]), reason)
    first = _first_calls(rows)
    is_first = (beside & first[pairs.clips]) | first[pairs.controls]
    drop(is_first, WARM_UP)
    wall = rows.known("wall_s")[pairs.controls]
    drop((clip_wall(rows, pairs) <= 0) | (wall <= 0), "without a measured time")
    if pairs.lone:
        left_out["without their clip"] = pairs.lone
    return keep, left_out


def clip_wall(rows: Rows, pairs: ComparedPairs) -> Floats:
    """Engine seconds of the clip of each pair, as it was made in the process of its control."""
    again = rows.known("clip_wall_s")[pairs.controls]
    return np.where(again > 0, again, rows.known("wall_s")[pairs.clips])


def measure_quality(
    rows: Rows, pairs: ComparedPairs, mixture: Mixture | None = None
) -> list[Quality]:
    """Measure how close clips are to their controls, by policy, NFE, quantisation and settings.

    Under a rule that decides clip by clip, few clips share an NFE: there, neighbouring numbers are
    taken together (`bands`).

    Args:
        rows: Of the prefix.
        pairs: Their pairs.
        mixture: The settings of its clips; None takes them for one.
    """
    psnr = rows.numbers("psnr_db")[pairs.controls]
    measured = np.isfinite(psnr)
    policy_codes, policies = rows.codes("policy")
    weight_codes, weights = rows.codes("quantisation")
    clips, at = pairs.clips[measured], pairs.controls[measured]
    steps, nfe = rows.known("num_inference_steps")[clips], rows.known("nfe")[clips]
    apart = np.zeros_like(clips) if mixture is None else mixture.apart(clips)
    band = nfe.copy()
    for kind in kinds(policy_codes[clips], steps, weight_codes[clips], apart)[0]:
        if policies[kind[0]] in BY_CLIP:
            alike = (policy_codes[clips] == kind[0]) & (steps == kind[1])
            alike &= (weight_codes[clips] == kind[2]) & (apart == kind[3])
            band[alike] = bands(nfe[alike])
    combined, which = kinds(policy_codes[clips], band, steps, weight_codes[clips], apart)
    found = []
    for index, kind in enumerate(combined):
        stored = weights[int(kind[3])]
        mine, evaluations = at[which == index], nfe[which == index]
        values = rows.numbers("psnr_db")[mine]
        ssim, lpips = (rows.numbers(name)[mine] for name in ("ssim", "lpips"))
        found.append(
            Quality(
                policy=", ".join(filter(None, (policies[kind[0]], stored))),
                settings="" if mixture is None else mixture.name(clips[which == index]),
                kinds=1 if mixture is None else mixture.count(clips[which == index]),
                nfe=int(evaluations.min()),
                nfe_most=int(evaluations.max()),
                nfe_mean=float(evaluations.mean()),
                steps=int(kind[2]),
                pairs=len(mine),
                psnr_db=mean(values),
                psnr_p10=float(np.percentile(values, 10)),
                psnr_worst=float(values.min()),
                ssim=mean(ssim) if np.isfinite(ssim).all() else None,
                lpips=mean(lpips) if np.isfinite(lpips).all() else None,
                promised_error=_rms(rows.numbers("promised_error")[clips[which == index]]),
                latent_error=_rms(rows.numbers("latent_error")[mine]),
                note="; ".join(filter(None, (few(len(mine)), _FULL if stored else ""))),
            )
        )
    return found


def bands(nfe: Floats) -> Floats:
    """Divide clips into bands of neighbouring numbers of evaluations.

    Every band has `FEW` pairs or more, as far as there are so many; there are `MOST_BANDS` at most.

    Args:
        nfe: Of each clip.

    Returns:
        The smallest number of each clip's band.
    """
    numbers, counts = np.unique(nfe, return_counts=True)
    size = max(FEW, -(-len(nfe) // MOST_BANDS))
    begins = [0]
    for at in range(1, len(numbers)):
        if counts[begins[-1] : at].sum() >= size and counts[at:].sum() >= FEW:
            begins.append(at)
    begin = numbers[begins]
    return np.asarray(begin[np.searchsorted(begin, nfe, side="right") - 1], np.float64)


def is_blended(quality: Sequence[Quality]) -> bool:
    """Whether the compared pairs are of several settings."""
    several = len({each.settings for each in quality}) > 1
    return several or any(each.kinds > 1 for each in quality)


def broken_promises(quality: Sequence[Quality]) -> list[tuple[str, float, float]]:
    """Where controls measured a far larger error than was promised.

    Pairs of several settings were promised different errors, and no setting was promised the mean
    of these, so each line is judged by itself if they are mixed.

    Returns:
        Which pairs ("" for all), the promised error and the measured one.
    """
    parts = [("", quality)]
    if is_blended(quality):
        parts = [(each.settings, [each]) for each in quality]
    found = ((where, errors(entries)) for where, entries in parts)
    return [(where, *both) for where, both in found if both and is_too_much(*both)]


def errors(quality: Sequence[Quality]) -> tuple[float, float] | None:
    """The promised and the measured error over all pairs, None where either is unknown.

    Pairs of quantised clips are left out, because no plan promises what quantised weights cost.
    """
    known = [
        (entry.pairs, entry.promised_error, entry.latent_error)
        for entry in quality
        if entry.promised_error is not None
        and entry.latent_error is not None
        and _FULL not in entry.note
    ]
    if not known:
        return None
    pairs = sum(count for count, _, _ in known)
    promised, measured = (
        math.sqrt(sum(one[0] * one[which] ** 2 for one in known) / pairs) for which in (1, 2)
    )
    return promised, measured


def _rms(values: npt.NDArray[np.float64]) -> float | None:
    """Root mean square of the known values, None without any."""
    known = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(np.square(known)))) if len(known) else None


def control_fraction(clips: int) -> float:
    """The `--control-fraction` that gives a dataset of so many clips about `FEW` pairs or more."""
    return min(1.0, max(0.05, math.ceil(100 * FEW / max(clips, 1)) / 100))


def few(pairs: int) -> str:
    """Return the warning for a small number of pairs, "" for a sufficient one."""
    if pairs >= FEW:
        return ""
    return f"only {counted(pairs, 'pair')}: the interval is too narrow to be trusted"


def few_calls(calls: int, pairs: int) -> str:
    """Return the warning for pairs that share few engine calls, "" for enough calls."""
    if calls == 1:
        return f"one engine call made {counted(pairs, 'pair')}: one measurement, so no interval"
    if calls >= FEW:
        return ""
    return (
        f"only {counted(calls, 'engine call')} made {counted(pairs, 'pair')}: the interval, over "
        "calls, is too narrow to be trusted"
    )


def _first_calls(rows: Rows) -> Mask:
    """Return the rows of the first engine call of each process."""
    codes, values = rows.codes("worker_id")
    known = np.array([bool(value) for value in values])[codes] if len(rows) else codes > 0
    # The rows of one call end at nearly the same time; the next call ends at least its own
    # duration later.
    began = rows.known("up_s") - rows.known("wall_s") * rows.known("batch_rows")
    first = np.full(len(values), np.inf)
    np.minimum.at(first, codes[known], rows.known("up_s")[known])
    return known & (began < first[codes])
