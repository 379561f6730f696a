"""Works out what a report says about good clips. Scores, writes and shows nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.report.accounts import Accounts
from pipeline.report.base import ClipEntry, Estimate
from pipeline.report.bootstrap import FEW, mean, ratio_of_sums
from pipeline.report.gallery import clip_entries, even
from pipeline.report.good_clips.advice import advise
from pipeline.report.good_clips.clips import ScoredClips
from pipeline.report.good_clips.defects import find_defects
from pipeline.report.good_clips.document import (
    GoodClipCost,
    GoodClips,
    JudgedClip,
    MissingScores,
    ScorerUsed,
)
from pipeline.report.good_clips.duplicates import near_duplicates
from pipeline.report.good_clips.summaries import count_terms, failed_terms, summarize
from pipeline.report.rows import Floats, Rows
from pipeline.report.tables.mixture import Mixture
from pipeline.wording import counted

SHOWN = 6
"""Good clips that are shown, and as many others."""

MOST_REASONS = 10


def measure_good_clips(
    rows: Rows,
    accounts: Accounts,
    clips: ScoredClips,
    mixture: Mixture | None = None,
    *,
    all_duplicates: bool = False,
) -> GoodClips:
    """Work out what is known about good clips.

    Args:
        rows: Of the prefix.
        accounts: What the prefix has cost.
        clips: What was said about its clips.
        mixture: Their settings; None takes them for one.
        all_duplicates: Look for near duplicates however many clips there are.

    Raises:
        StorageError: A file cannot be read.
    """
    good, not_good = int((clips.good == 1).sum()), int((clips.good == 0).sum())
    judged = clips.good[np.isfinite(clips.good)]
    notes = list(clips.notes)
    if 0 < good < FEW:
        notes.append(
            f"Only {counted(good, 'good clip')}: the cost of one has no interval below {FEW}."
        )
    if len(judged) and not (good and not_good):
        notes.append(
            "All judged clips have one verdict, so the interval of their share has no width; that "
            "says nothing about the next clips."
        )
    terms = count_terms(clips)
    scores = [summarize(name, clips.scores[name], clips.asked[name]) for name in clips.scores]
    defects, defective = find_defects(clips.scores)
    missing = sorted(clips.missing.items(), key=lambda item: (-item[1], item[0]))
    reasons = [MissingScores(reason=text, clips=count) for text, count in missing[:MOST_REASONS]]
    return GoodClips(
        condition=clips.condition,
        good=good,
        not_good=not_good,
        not_judged=len(clips) - len(judged),
        share=mean(judged) if len(judged) else None,
        cost=_cost(rows, clips, accounts),
        terms=terms,
        scores=scores,
        defects=defects,
        defective=defective,
        scorers=[ScorerUsed(scorer=s, clips=count) for s, count in sorted(clips.scorers.items())],
        missing=reasons,
        duplicates=near_duplicates(rows, clips, mixture, all_clips=all_duplicates),
        score_s=clips.score_s,
        kept=_shown(rows, clips, even(np.flatnonzero(clips.good == 1), SHOWN)),
        rejected=_shown(rows, clips, _rejected(clips)),
        notes=notes,
        advice=advise(
            good, not_good, len(clips) - len(judged), terms, scores, reasons, defects, defective
        ),
    )


def _cost(rows: Rows, clips: ScoredClips, accounts: Accounts) -> GoodClipCost | None:
    """Everything that was spent over good clips; None without a good clip.

    Clips are resampled with what they took themselves. All else (controls, samples without a clip,
    loading, idle time) is spread evenly over the clips, good or not.
    """
    good = (clips.good == 1).astype(np.float64)
    if not good.any():
        return None
    group = np.maximum(rows.known("group_size"), 1.0)
    own_s = (rows.known("gpu_s") + rows.known("wasted_s") * group)[clips.places]
    dollars = accounts.dollars
    device_s = accounts.device_s.total
    own_dollars = accounts.row_dollars[clips.places]
    return GoodClipCost(
        device_s=device_s / good.sum(),
        device_s_bounds=_bounds(own_s, device_s, good),
        dollars=None if dollars is None else dollars.total / good.sum(),
        dollars_bounds=None if dollars is None else _bounds(own_dollars, dollars.total, good),
    )


def _bounds(own: Floats, total: float, good: Floats) -> Estimate | None:
    if good.sum() < FEW or total <= 0:
        return None
    return ratio_of_sums(own + (total - own.sum()) / len(own), good)


def _rejected(clips: ScoredClips) -> npt.NDArray[np.int64]:
    """Clips to show that are not good: one per term first, then others evenly."""
    places = np.flatnonzero(clips.good == 0)
    examples = [
        int(failed[len(failed) // 2])
        for verdict in clips.verdicts[:SHOWN]
        if len(failed := places[verdict[places] == 0])
    ]
    chosen = dict.fromkeys([*examples, *even(places, SHOWN).tolist()])
    return np.array(list(chosen)[:SHOWN], np.int64)


def _shown(rows: Rows, clips: ScoredClips, chosen: npt.NDArray[np.int64]) -> list[JudgedClip]:
    entries = clip_entries(rows, [(int(clips.places[at]), -1) for at in chosen])
    return [
        JudgedClip(
            clip=entry,
            scores={
                name: float(values[at]) if np.isfinite(values[at]) else None
                for name, values in clips.scores.items()
            },
            fails=list(failed_terms(clips, int(at))),
        )
        for entry, at in zip(entries, chosen, strict=True)
    ]


def good_clips_shown(found: GoodClips) -> list[ClipEntry]:
    """The clips that the page shows."""
    groups = found.duplicates.largest
    judged = [each.clip for each in (*found.kept, *found.rejected)]
    return [*judged, *(clip for group in groups for clip in (group.first, *group.others))]
