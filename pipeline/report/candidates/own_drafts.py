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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.schema import draft_key
from pipeline.errors import StorageError, UserError
from pipeline.report.base import Estimate
from pipeline.report.bootstrap import FEW, mean, rank_correlation, ranks
from pipeline.report.candidates.candidate_rows import CandidateRows
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
    chosen = [place for place in sorted(candidates.drafts) if roles.clips[place]]
    if not chosen:
        return None
    codes, runs = rows.codes("run_id")
    by: defaultdict[str, list[int]] = defaultdict(list)
    for place in chosen:
        by[select_by.get(runs[codes[place]], "")].append(place)
    found: list[DraftScore] = []
    notes: list[str] = []
    regret: DraftRegret | None = None
    if without := len(by.pop("", [])):
        notes.append(
            f"{counted(without, 'clip', grouped=True)} of runs without a record: what their drafts "
            "were chosen by is unknown."
        )
    if len(by) > 1:
        notes.append(f"Runs chose among drafts by different expressions: {'; '.join(sorted(by))}.")
    for text, places in sorted(by.items(), key=lambda item: -len(item[1])):
        try:
            values = _values(rows, candidates, text, places)
        except UserError as error:
            notes.append(f"Finished clips cannot be compared with their drafts: {error}")
            continue
        found += _select_by(candidates, text, places, values)
        regret = regret or _regret(candidates, places, values)
    looked_at, by_score = _by_score(rows, scored, candidates, chosen)
    found += [each for each in by_score if each.score not in by]
    if any(each.samples < FEW for each in found):
        notes.append(f"Intervals of fewer than {FEW} samples are too narrow to be trusted.")
    if regret is None:
        notes.append(
            "What the drafts that were not finished would have become is unknown, and so is what "
            "the choice by drafts misses (regret). docs/selection.md says how to finish all drafts "
            "of some samples; this page then shows it."
        )
    all_drafts = [draft for place in chosen for draft in candidates.drafts[place]]
    return OwnDrafts(
        samples=len(chosen),
        drafts=len(all_drafts),
        device_s=sum(draft["gpu_s"] or 0.0 for draft in all_drafts),
        nfe=sum(draft["nfe"] or 0 for draft in all_drafts),
        scores=found,
        looked_at=looked_at,
        regret=regret,
        notes=notes,
    )


Values = Mapping[tuple[int, int], float]
"""A value of finished clips, by what they were made from."""


def _values(
    rows: Rows, candidates: CandidateRows, select_by: str, places: Sequence[int]
) -> dict[tuple[int, int], float]:
    """The value of `--select-by` of all finished clips that have the seed of one of the drafts.

    Raises:
        UserError: The expression cannot be worked out over these clips.
    """
    keys = {
        (int(candidates.content[place]), draft["seed_u64"])
        for place in places
        for draft in candidates.drafts[place]
    }
    control = pc.not_equal(rows.table["control_of"], "").fill_null(False).to_numpy()
    known = np.isin(candidates.content, [content for content, _ in keys]) & rows.counts & ~control
    wanted = {
        place: key
        for place in np.flatnonzero(known).tolist()
        if (key := candidates.key(place)) in keys
    }
    ids = rows.table["sample_id"].take(pa.array(list(wanted), pa.int64())).cast(pa.string())
    key_of = dict(zip(ids.to_pylist(), wanted.values(), strict=True))
    tables = [
        table.filter(pc.is_in(table["sample_id"], value_set=ids.combine_chunks()))
        for table in clip_rows(rows.storage, read_stored(rows.storage))
    ]
    table = pa.concat_tables(tables)
    rank = RowRank(select_by, _names(table["scores"]))
    return {
        key_of[sample_id]: float(value)
        for sample_id, value in zip(table["sample_id"].to_pylist(), rank.values(table), strict=True)
        if value is not None and np.isfinite(value)
    }


def _names(scores: pa.ChunkedArray) -> list[str]:
    flat = pc.list_flatten(scores.combine_chunks())
    return sorted(pc.unique(pc.struct_field(flat, "name")).to_pylist())


def _select_by(
    candidates: CandidateRows, text: str, places: Sequence[int], finished: Values
) -> Iterator[DraftScore]:
    compared = []
    for place in places:
        drafts = [draft["value"] for draft in candidates.drafts[place]]
        value = finished.get(candidates.key(place))
        own = drafts[candidates.numbers[place] - 1]
        if value is not None and own is not None:
            compared.append(
                (own, value, own - float(np.mean([d for d in drafts if d is not None])))
            )
    return _score(text, compared)


def _score(name: str, compared: Sequence[tuple[float, float, float]]) -> Iterator[DraftScore]:
    """One score, from values of drafts, of their clips, and gains; nothing without samples."""
    if not compared:
        return
    drafts, clips, gains = np.array(compared, np.float64).T
    yield DraftScore(
        score=name,
        samples=len(compared),
        rank_correlation=rank_correlation(drafts, clips),
        difference=mean(clips - drafts),
        gain=mean(gains),
    )


def _regret(
    candidates: CandidateRows, places: Sequence[int], finished: Values
) -> DraftRegret | None:
    """Judge the choice where all drafts of a sample were finished; None without such a sample."""
    pairs = []
    for place in places:
        content, drafts = int(candidates.content[place]), candidates.drafts[place]
        clips = [finished.get((content, draft["seed_u64"])) for draft in drafts]
        values = [draft["value"] for draft in drafts]
        if len(drafts) > 1 and None not in clips and None not in values:
            own = int(candidates.numbers[place]) - 1
            pairs.append((own, np.array(values, np.float64), np.array(clips, np.float64)))
    if not pairs:
        return None
    correlations = [
        value for _, drafts, clips in pairs if (value := _spearman(drafts, clips)) is not None
    ]
    return DraftRegret(
        samples=len(pairs),
        rank_correlation=mean(np.array(correlations)) if correlations else None,
        same_seed=_mean_of([float(clips[own] == clips.max()) for own, _, clips in pairs]),
        regret=_mean_of([clips.max() - clips[own] for own, _, clips in pairs]),
        gain=_mean_of([clips[own] - clips.mean() for own, _, clips in pairs]),
    )


def _spearman(one: Floats, other: Floats) -> float | None:
    a, b = ranks(one), ranks(other)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else None


def _mean_of(values: Sequence[float]) -> Estimate:
    return mean(np.array(values, np.float64))


def _by_score(
    rows: Rows, scored: ScoredClips | None, candidates: CandidateRows, chosen: Sequence[int]
) -> tuple[int, list[DraftScore]]:
    """Compare each score that drafts have, for some samples.

    Returns:
        The samples that could be read, and the scores.
    """
    if scored is None:
        return 0, []
    at = {int(place): number for number, place in enumerate(scored.places)}
    places = [int(p) for p in even(np.array(chosen), MOST_READ) if int(p) in at]
    keys = [draft_key(draft["sample_id"]) for p in places for draft in candidates.drafts[p]]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        read = iter(list(pool.map(lambda key: _scores(rows.storage, key), keys)))
    compared: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    looked_at = 0
    for place in places:
        drafts = [next(read) for _ in candidates.drafts[place]]
        own = drafts[candidates.numbers[place] - 1]
        looked_at += own is not None
        for name, value in (own or {}).items():
            others = [each[name] for each in drafts if each is not None and name in each]
            clip = scored.scores.get(name)
            if clip is not None and np.isfinite(clip[at[place]]):
                gain = value - float(np.mean(others))
                compared[name].append((value, float(clip[at[place]]), gain))
    return looked_at, [each for name in sorted(compared) for each in _score(name, compared[name])]


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
