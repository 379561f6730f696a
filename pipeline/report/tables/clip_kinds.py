"""How many clips of a dataset were made with which settings, and how that is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.report.rows import Floats, Mask, Rows, kinds
from pipeline.report.tables.document import ClipSettings
from pipeline.requests.run_settings import SEED, value_text
from pipeline.wording import counted

MOST_SETTINGS = 8
"""Kinds of clips that a text names."""

MOST_NEGATIVES = 12
"""Different negative prompts by which clips are counted apart; more are texts of the rows."""

_COLUMNS = {
    "settings": "settings",
    "width": "width",
    "height": "height",
    "num_frames": "num_frames",
    "fps": "fps",
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "guidance_scale_2": "guidance_scale_2",
    "negative_prompt": "negative_prompt",
    "seed": SEED,
}
"""The column of the rows that tells clips apart, by the attribute of their kind."""

_NOT_RECORDED = {"model": "model", "policy": "cache"}
"""The same for rows of an older version, without `settings`."""

_Codes = npt.NDArray[np.int64]


def run_seeds(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return the seeds that runs gave to all their rows (`sampling.seed`), by run id."""
    found = {}
    for run_id, manifest in manifests.items():
        seed = ((manifest.get("config") or {}).get("sampling") or {}).get("seed")
        if isinstance(seed, int):
            found[run_id] = seed
    return found


def clip_kinds(rows: Rows, clips: Mask, seeds: Mapping[str, int]) -> list[ClipSettings]:
    """Count the clips of each combination of settings; see `numbered_kinds`."""
    return numbered_kinds(rows, clips, seeds)[0]


def numbered_kinds(
    rows: Rows, clips: Mask, seeds: Mapping[str, int]
) -> tuple[list[ClipSettings], _Codes]:
    """Count the clips of each combination of settings, the most frequent first.

    Args:
        rows: Of the prefix.
        clips: Mask of the dataset's clips.
        seeds: The seed of each run that gave one. Where a run gives none, each clip has the seed
            of its row or of its prompt, which does not make it a kind of its own.

    Returns:
        The kinds, and the place of each clip's among them.
    """
    texts = [rows.codes(name) for name in ("settings", "model", "policy")]
    numbers = [
        _numbered(rows.known(name)[clips])
        for name in ("num_inference_steps", "guidance_scale", "width", "height", "num_frames")
    ]
    numbers.append(_numbered(rows.known("fps")[clips]))
    numbers.append(_numbered(np.nan_to_num(rows.numbers("guidance_scale_2")[clips], nan=-1.0)))
    negatives, negative = _negatives(rows, clips)
    of_runs, seed = _seeds(rows, clips, seeds)
    combined, which = kinds(
        *(codes[clips] for codes, _ in texts), *(codes for _, codes in numbers), negative, seed
    )
    nfe = np.bincount(which, rows.known("nfe")[clips], minlength=len(combined))
    counts = np.bincount(which, minlength=len(combined))
    found = []
    for kind, count, evaluations in zip(combined.tolist(), counts, nfe, strict=True):
        settings, model, policy = (
            values[code] for code, (_, values) in zip(kind, texts, strict=False)
        )
        steps, scale, width, height, frames, fps, scale_2 = (
            float(values[code]) for code, (values, _) in zip(kind[3:], numbers, strict=False)
        )
        found.append(
            ClipSettings(
                settings=settings,
                model=model,
                policy=policy,
                steps=int(steps),
                guidance_scale=scale,
                guidance_scale_2=None if scale_2 < 0 else scale_2,
                width=int(width),
                height=int(height),
                num_frames=int(frames),
                fps=int(fps),
                negative_prompt=negatives[kind[-2]],
                seed=of_runs[kind[-1]],
                clips=int(count),
                nfe_mean=float(evaluations / count),
            )
        )
    order = sorted(
        range(len(found)), key=lambda at: (-found[at].clips, found[at].settings, found[at].steps)
    )
    place = np.empty(len(found), np.int64)
    place[order] = np.arange(len(found))
    return [found[at] for at in order], place[which]


def mixed(found: Sequence[ClipSettings]) -> str:
    """Say that a dataset holds clips of several settings, how many of each, and what differs."""
    return f"{_kinds(found)}: {'; '.join(each_kind(found))}. {_told_apart(found)}"


def mixed_note(found: Sequence[ClipSettings]) -> str:
    """The same above a list of the kinds (`each_kind`)."""
    return f"{_kinds(found)}. {_told_apart(found)} They are:"


def each_kind(found: Sequence[ClipSettings]) -> list[str]:
    """The kinds of clips with their numbers, one by one; nothing where all clips are alike."""
    if len(found) < 2:
        return []
    differ = differing(found)
    each = [f"{kind.clips:,} of {said_kind(kind, differ)}" for kind in found[:MOST_SETTINGS]]
    left = len(found) - MOST_SETTINGS
    return [*each, f"and {counted(left, 'more kind')}"] if left > 0 else each


def _kinds(found: Sequence[ClipSettings]) -> str:
    return f"The clips were made with {len(found)} different settings"


def _told_apart(found: Sequence[ClipSettings]) -> str:
    *first, last = differing(found).values()
    columns = f"columns {', '.join(first)} and {last}" if first else f"column {last}"
    return (
        f"They load as one dataset; the {columns} of rows and index tell{'' if first else 's'} "
        "them apart."
    )


def differing(found: Sequence[ClipSettings]) -> dict[str, str]:
    """What differs between kinds of clips: attribute of a kind to column of the rows."""
    names = _COLUMNS if found[0].settings else {**_NOT_RECORDED, **_COLUMNS}
    return {
        name: column
        for name, column in names.items()
        if len({getattr(each, name) for each in found}) > 1
    }


def said_kind(kind: ClipSettings, differ: Mapping[str, str]) -> str:
    """Settings of clips; what few runs change is named only where it differs.

    Args:
        kind: The clips.
        differ: What differs between them and others (`differing`).
    """
    second = kind.guidance_scale_2
    pieces = [
        kind.settings or f"{kind.model} {kind.policy}",
        f"{kind.width}x{kind.height}",
        counted(kind.num_frames, "frame"),
        f"{kind.fps} fps" if "fps" in differ else "",
        counted(kind.steps, "step"),
        f"guidance {kind.guidance_scale:g}" + (f" and {second:g}" if second is not None else ""),
    ]
    if "negative_prompt" in differ:
        pieces.append(f"negative prompt {value_text(kind.negative_prompt)}")
    if "seed" in differ:
        pieces.append(f"seed {'of row or prompt' if kind.seed is None else kind.seed}")
    return ", ".join(filter(None, [*pieces, f"{kind.nfe_mean:.1f} NFE"]))


def _numbered(column: Floats) -> tuple[Floats, _Codes]:
    """The different numbers of a column, and the place of each row's number among them."""
    if not len(column) or column.min() == column.max():  # most columns; sorting takes longer
        return column[:1], np.zeros(len(column), np.int64)
    found, places = np.unique(column, return_inverse=True)
    return found, places.astype(np.int64)


def _negatives(rows: Rows, clips: Mask) -> tuple[list[str | None], _Codes]:
    """Negative prompts of the clips, [None] if there are too many, and the place of each clip's."""
    codes, values = rows.codes("negative_prompt")
    present, places = _numbered(codes[clips].astype(np.float64))
    if len(present) > MOST_NEGATIVES:
        return [None], np.zeros(len(places), np.int64)
    return [values[int(code)] for code in present], places


def _seeds(rows: Rows, clips: Mask, seeds: Mapping[str, int]) -> tuple[list[int | None], _Codes]:
    """The seeds of runs, None among them, and the place of each clip's."""
    codes, run_ids = rows.codes("run_id")
    of_runs = [seeds.get(run_id) for run_id in run_ids]
    different = list(dict.fromkeys(of_runs))
    places = np.array([different.index(seed) for seed in of_runs], np.int64)
    return different, places[codes[clips]]
