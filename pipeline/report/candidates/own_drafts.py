"""How well the drafts of a run agree with the clips that were finished from them.

A run finishes one draft of each sample. So it knows how a chosen draft's scores compare with those
of its clip, and how much better the chosen draft is than the mean one; what the other drafts would
have become is unknown. Where the prefix also holds the finished clips of all drafts of some samples
(clips of the same prompt and settings with the drafts' seeds), the regret of the choice is known
for these.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.schema import draft_key
from pipeline.errors import StorageError, UserError
from pipeline.report.bootstrap import FEW, mean, rank_correlation, ranks
from pipeline.report.candidates.candidate_rows import (
    CandidateRows,
    DraftTable,
    Places,
    find,
    keys,
)
from pipeline.report.candidates.document import DraftRegret, DraftScore, OwnDrafts
from pipeline.report.gallery import even
from pipeline.report.good_clips.clips import ScoredClips
from pipeline.report.rows import Floats, RowRoles, Rows
from pipeline.scoring.conditions import RowRank
from pipeline.scoring.score_prefix import clip_rows
from pipeline.scoring.stored_scores import read_stored
from pipeline.storage.storage import Storage
from pipeline.wording import counted

MOST_READ = 200
"""Samples whose drafts' rows are read: each is a small file, and a sample has several."""

READ_THREADS = 16

Scores = Mapping[str, float]


def measure_drafts(
    rows: Rows,
    roles: RowRoles,
    scored: ScoredClips | None,
    candidates: CandidateRows,
    select_by: Mapping[str, str],
) -> OwnDrafts | None:
    """Compare drafts with finished clips; None where no clip was chosen by drafts.

    Args:
        rows: Of the prefix.
        roles: Of the rows.
        scored: The scores of its clips.
        candidates: Which drafts clips were chosen by.
        select_by: `--select-by` of each run that has a record, by its id.

    Raises:
        StorageError: A part cannot be read.
    """
    drafts = candidates.drafts.where(roles.clips[candidates.drafts.places])
    if not len(drafts.places):
        return None
    codes, runs = rows.codes("run_id")
    chosen_by = np.array([select_by.get(run, "") for run in runs], object)[codes[drafts.places]]
    texts = sorted({*chosen_by} - {""})
    found: list[DraftScore] = []
    notes: list[str] = []
    regret: DraftRegret | None = None
    if without := int((chosen_by == "").sum()):
        notes.append(
            f"{counted(without, 'clip', grouped=True)} of runs without a record: what their drafts "
            "were chosen by is unknown."
        )
    if len(texts) > 1:
        notes.append(f"Runs chose among drafts by different expressions: {'; '.join(texts)}.")
    for text in texts:
        some = drafts.where(chosen_by == text)
        try:
            values = _values(rows, roles, scored, candidates, some, text)
        except UserError as error:
            notes.append(f"Finished clips cannot be compared with their drafts: {error}")
            continue
        found += _select_by(candidates, some, text, values)
        regret = regret or _regret(candidates, some, values)
    looked_at, by_score = _by_score(rows, scored, candidates, drafts)
    found += [each for each in by_score if each.score not in texts]
    if any(each.samples < FEW for each in found):
        notes.append(f"Intervals of fewer than {FEW} samples are too narrow to be trusted.")
    if regret is None:
        notes.append(
            "What the drafts that were not finished would have become is unknown, and so is what "
            "the choice by drafts misses (regret). docs/selection.md says how to finish all drafts "
            "of some samples; this page then shows it."
        )
    return OwnDrafts(
        samples=len(drafts.places),
        drafts=len(drafts.seeds),
        device_s=float(drafts.gpu_s.sum()),
        nfe=int(drafts.nfe.sum()),
        scores=found,
        looked_at=looked_at,
        regret=regret,
        notes=notes,
    )


def _values(
    rows: Rows,
    roles: RowRoles,
    scored: ScoredClips | None,
    candidates: CandidateRows,
    drafts: DraftTable,
    select_by: str,
) -> Floats:
    """The value of `--select-by` of the finished clip of each draft; NaN where there is none.

    Raises:
        UserError: The expression cannot be worked out over these clips.
    """
    rank = RowRank(select_by, sorted(scored.scores) if scored else [])
    wanted = keys(np.repeat(candidates.content[drafts.places], drafts.counts), drafts.seeds)
    own = keys(candidates.content, candidates.seeds)
    clips = np.flatnonzero(roles.clips & np.isin(own, wanted))
    ids = rows.table["sample_id"].take(pa.array(clips)).cast(pa.string()).combine_chunks()
    values = np.full(len(clips) + 1, np.nan)  # the last one is of drafts without a finished clip
    for table in clip_rows(rows.storage, read_stored(rows.storage)):
        at = pc.index_in(table["sample_id"], value_set=ids)
        known = table.filter(at.is_valid())
        if known.num_rows:
            of_known = [np.nan if value is None else float(value) for value in rank.values(known)]
            values[at.drop_null().to_numpy()] = of_known
    values[~np.isfinite(values)] = np.nan
    return values[find(wanted, own[clips])]


def _select_by(
    candidates: CandidateRows, drafts: DraftTable, text: str, finished: Floats
) -> Iterator[DraftScore]:
    own = _own(candidates, drafts)
    known = np.isfinite(drafts.values)
    counts = np.add.reduceat(known, drafts.first, dtype=np.float64)
    means = np.add.reduceat(np.where(known, drafts.values, 0.0), drafts.first) / counts.clip(1)
    both = np.isfinite(drafts.values[own]) & np.isfinite(finished[own])
    values = drafts.values[own][both]
    return _score(text, values, finished[own][both], values - means[both])


def _own(candidates: CandidateRows, drafts: DraftTable) -> Places:
    """Position of the draft that each clip was made from."""
    return drafts.first + candidates.numbers[drafts.places] - 1


def _score(name: str, drafts: Floats, clips: Floats, gains: Floats) -> Iterator[DraftScore]:
    """One score, from values of drafts, of their clips, and gains; nothing without samples."""
    if len(drafts):
        yield DraftScore(
            score=name,
            samples=len(drafts),
            rank_correlation=rank_correlation(drafts, clips),
            difference=mean(clips - drafts),
            gain=mean(gains),
        )


def _regret(candidates: CandidateRows, drafts: DraftTable, finished: Floats) -> DraftRegret | None:
    """Judge the choice where all drafts of a sample were finished; None without such a sample."""
    whole = np.isfinite(finished) & np.isfinite(drafts.values)
    complete = np.logical_and.reduceat(whole, drafts.first) & (drafts.counts > 1)
    if not complete.any():
        return None
    some, clips = drafts.where(complete), finished[np.repeat(complete, drafts.counts)]
    best = np.maximum.reduceat(clips, some.first)
    own = clips[_own(candidates, some)]
    means = np.add.reduceat(clips, some.first) / some.counts
    pairs = zip(np.split(some.values, some.first[1:]), np.split(clips, some.first[1:]), strict=True)
    correlations = [value for pair in pairs if (value := _spearman(*pair)) is not None]
    return DraftRegret(
        samples=len(own),
        rank_correlation=mean(np.array(correlations)) if correlations else None,
        same_seed=mean((own == best).astype(np.float64)),
        regret=mean(best - own),
        gain=mean(own - means),
    )


def _spearman(one: Floats, other: Floats) -> float | None:
    a, b = ranks(one), ranks(other)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else None


def _by_score(
    rows: Rows, scored: ScoredClips | None, candidates: CandidateRows, drafts: DraftTable
) -> tuple[int, list[DraftScore]]:
    """Compare each score that drafts have, for some samples.

    Returns:
        The samples that could be read, and the scores.
    """
    if scored is None:
        return 0, []
    at = np.full(len(rows), -1)
    at[scored.places] = np.arange(len(scored.places))
    chosen = np.zeros(len(drafts.places), np.bool_)
    chosen[even(np.arange(len(drafts.places)), MOST_READ)] = True
    some = drafts.where(chosen)
    files = [draft_key(sample_id) for sample_id in some.ids.to_pylist()]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        read = list(pool.map(lambda key: _scores(rows.storage, key), files))
    compared: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    looked_at = 0
    facts = (some.places, some.first, some.counts, _own(candidates, some))
    for place, first, count, own in zip(*(each.tolist() for each in facts), strict=True):
        found = read[own]
        if found is None or at[place] < 0:
            continue
        looked_at += 1
        for name, value in found.items():
            same = [e[name] for e in read[first : first + count] if e is not None and name in e]
            clip = scored.scores.get(name)
            if clip is not None and np.isfinite(clip[at[place]]):
                gain = value - float(np.mean(same))
                compared[name].append((value, float(clip[at[place]]), gain))
    columns = {name: np.array(values, np.float64).T for name, values in sorted(compared.items())}
    return looked_at, [each for name, three in columns.items() for each in _score(name, *three)]


def _scores(storage: Storage, key: str) -> Scores | None:
    """The scores in the row of a draft; None if it is gone or damaged."""
    try:
        row: dict[str, Any] = json.loads(storage.read_bytes(key))
        return {
            each["name"]: float(each["value"])
            for each in row["scores"]
            if each["value"] is not None
        }
    except (StorageError, ValueError, KeyError, TypeError):
        return None
