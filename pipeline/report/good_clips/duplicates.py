"""Near duplicates among the clips of a dataset, from the hashes of their rows."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa

from pipeline.report.gallery import clip_entries
from pipeline.report.good_clips.clips import ScoredClips
from pipeline.report.good_clips.document import DuplicateGroup, NearDuplicates
from pipeline.report.rows import Rows
from pipeline.report.tables.mixture import Mixture
from pipeline.scoring.perceptual_hash import duplicate_groups
from pipeline.wording import called_as, counted

MOST_CLIPS = 20_000
"""Comparing so many clips takes about 2 seconds of CPU time; twice as many take four times that."""

SHOWN_GROUPS, SHOWN_OTHERS = 4, 3


def near_duplicates(
    rows: Rows, clips: ScoredClips, mixture: Mixture | None = None, *, all_clips: bool = False
) -> NearDuplicates:
    """Group clips that look nearly the same; a group's first clip is the one made first.

    Args:
        rows: Of the prefix.
        clips: Of the dataset.
        mixture: Their settings; None takes them for one.
        all_clips: Compare them however many there are.
    """
    hashed = np.flatnonzero(np.asarray(clips.hashes.to_numpy(zero_copy_only=False)) != "")
    if len(hashed) > MOST_CLIPS and not all_clips:
        note = (
            f"{counted(len(hashed), 'clip', grouped=True)} are not compared with one another: that "
            f"takes long above {MOST_CLIPS:,}. {called_as('report')} --all-duplicates compares "
            "them."
        )
        return NearDuplicates(compared=0, groups=0, repeats=0, largest=[], note=note)
    ids = rows.table["sample_id"].take(pa.array(clips.places[hashed])).cast(pa.string())
    made = rows.known("created_at")[clips.places[hashed]]
    table = pa.table({"made": made, "id": ids, "clip": hashed})
    order = table.sort_by([("made", "ascending"), ("id", "ascending")])["clip"].to_numpy()
    hashes = clips.hashes.take(pa.array(order)).to_pylist()
    # Positions stand for ids here: only the clips that are shown need theirs.
    first_of = duplicate_groups([(str(at), text) for at, text in zip(order, hashes, strict=True)])
    members = defaultdict(list)
    for later, first in first_of.items():
        members[int(first)].append(int(later))
    sizes = Counter({first: len(others) for first, others in members.items()})
    return NearDuplicates(
        compared=len(hashed),
        groups=len(members),
        repeats=len(first_of),
        of_other_settings=0
        if mixture is None
        else mixture.repeats_of_others(
            [clips.places[[at, *others]].tolist() for at, others in members.items()]
        ),
        largest=[_group(rows, clips, at, members[at]) for at, _ in sizes.most_common(SHOWN_GROUPS)],
        note="",
    )


def _group(rows: Rows, clips: ScoredClips, first: int, others: list[int]) -> DuplicateGroup:
    shown = [first, *others[:SHOWN_OTHERS]]
    entries = clip_entries(rows, [(int(clips.places[at]), -1) for at in shown])
    return DuplicateGroup(first=entries[0], others=entries[1:], clips=1 + len(others))
