"""The scores, verdicts and hashes of a dataset's clips as columns, read part by part.

Scores that were given later and the last condition are laid over the rows
(`pipeline.scoring.stored_scores`). Columns are filled without a Python object per value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.schema import SCHEMA
from pipeline.report.rows import Floats, Mask, RowRoles, Rows
from pipeline.scoring.condition_terms import Term, terms_of
from pipeline.scoring.conditions import Condition
from pipeline.scoring.score_prefix import clip_rows
from pipeline.scoring.stored_scores import FOLDER, read_stored
from pipeline.wording import called_as

BATCH_ROWS = 20_000
"""Rows that are matched and judged together."""

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ScoredClips:
    """The clips of a dataset, one entry per clip in every column.

    Attributes:
        places: Positions among the rows of the report.
        good: 1 for good clips, 0 for others, NaN where a clip is not judged.
        scores: Values by the name of the score; NaN where there is none.
        asked: Clips whose scorer was asked for a score, by the name of the score.
        applies: Clips that the condition was given for.
        terms: The terms of the condition.
        verdicts: 1 where a clip meets a term, 0 where not, NaN where unknown; a column per term.
        hashes: Perceptual hashes, "" where there is none.
        score_s: Thread seconds of scoring.
        scorers: Clips that a scorer (`name@version`) was asked about.
        missing: Clips that lack scores, by reason.
        condition: Of the terms; "" if there is none, or several.
        notes: What a reader must know.
    """

    places: Places
    good: Floats
    scores: Mapping[str, Floats]
    asked: Mapping[str, int]
    applies: Mask
    terms: tuple[Term, ...]
    verdicts: tuple[Floats, ...]
    hashes: pa.Array
    score_s: float
    scorers: Mapping[str, int]
    missing: Mapping[str, int]
    condition: str
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.places)


def read_scored_clips(
    rows: Rows, roles: RowRoles, conditions: Mapping[str, str]
) -> ScoredClips | None:
    """Read what was said about the clips of a dataset; None without a clip or a question.

    Args:
        rows: Of the prefix.
        roles: Of the rows.
        conditions: `--keep` of each run that has a record, by its id.

    Raises:
        UserError: A stored condition is invalid.
        StorageError: A file cannot be read, or is not ours.
    """
    if not roles.clips.any():  # every sample has failed, say
        return None
    storage = rows.storage
    judged = np.isfinite(rows.numbers("good")).any()
    if not judged and not rows.known("score_s").any() and not storage.list(FOLDER):
        return None
    stored = read_stored(storage)
    condition, applies, notes = _condition(rows, roles, stored.choice.keep, conditions)
    terms = terms_of(condition) if condition else ()
    reading = _Reading(rows, roles, applies, terms)
    for table in _batches(clip_rows(storage, stored)):
        reading.add(table)
    return reading.result(condition, notes)


def _batches(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables: matching ids and judging cost as much for few rows as for many."""
    some: list[pa.Table] = []
    for table in tables:
        some.append(table)
        if sum(each.num_rows for each in some) >= BATCH_ROWS:
            yield pa.concat_tables(some)
            some = []
    if some:
        yield pa.concat_tables(some)


@dataclass
class _Reading:
    """Collects the columns of tables of `SCHEMA`."""

    rows: Rows
    roles: RowRoles
    applies: Mask
    terms: tuple[Term, ...]
    places: list[Places] = field(default_factory=list)
    good: list[Floats] = field(default_factory=list)
    verdicts: list[list[Floats]] = field(default_factory=list)
    hashes: list[pa.ChunkedArray] = field(default_factory=list)
    values: dict[str, list[tuple[Places, Floats]]] = field(default_factory=dict)
    scorers: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    score_s: float = 0.0
    clips: int = 0

    def __post_init__(self) -> None:
        self.at = np.flatnonzero(self.roles.clips)
        ids = self.rows.table["sample_id"].take(pa.array(self.at)).cast(pa.string())
        self.ids = ids.combine_chunks()
        self._names: tuple[str, ...] | None = None
        self._tests: list[Condition] = []

    def add(self, table: pa.Table) -> None:
        """Take the rows that are clips of the dataset; rows written since are left to the next."""
        found = pc.index_in(table["sample_id"], value_set=self.ids)
        known = found.is_valid()
        table, found = table.filter(known), found.drop_null()
        if not table.num_rows:
            return
        places = self.at[found.to_numpy().astype(np.int64)]
        self.places.append(places)
        self.good.append(_floats(table["good"]))
        self._add_scores(table["scores"].combine_chunks())
        self._add_verdicts(table, self.applies[places])
        self.hashes.append(table["perceptual_hash"])
        self.score_s += pc.sum(table["score_s"]).as_py() or 0.0
        self.scorers.update(_counts(pc.list_flatten(table["scorers"])))
        reasons = table["scores_missing"]
        self.missing.update(_counts(reasons.filter(pc.not_equal(reasons, ""))))
        self.clips += table.num_rows

    def _add_scores(self, scores: pa.Array) -> None:
        owners = pc.list_parent_indices(scores).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = pc.list_flatten(scores)
        names = pc.struct_field(flat, "name").dictionary_encode()
        codes = names.indices.to_numpy(zero_copy_only=False)
        values = _floats(pc.struct_field(flat, "value"))
        for code, name in enumerate(names.dictionary.to_pylist()):
            mine = codes == code
            self.values.setdefault(name, []).append((owners[mine] + self.clips, values[mine]))

    def _add_verdicts(self, table: pa.Table, applies: Mask) -> None:
        known = {name.casefold() for name in (*SCHEMA.names, *self.values)}
        asked = {name for term in self.terms for name in term.names}
        # No clip has the score of such a name yet: the term is unknown, not invalid.
        absent = {name for name in asked if name.casefold() not in known}
        names = tuple(sorted({*self.values, *absent}))
        if self.terms and names != self._names:
            self._names = names
            self._tests = [Condition(term.sql, names) for term in self.terms]
        self.verdicts.append(
            [
                np.where(applies, np.array(test.of_table(table), np.float64), np.nan)
                for test in self._tests
            ]
        )

    def result(self, condition: str, notes: list[str]) -> ScoredClips:
        """Join what was collected."""
        scores: dict[str, Floats] = {}
        for name, found in sorted(self.values.items()):
            scores[name] = np.full(self.clips, np.nan)
            for places, values in found:
                scores[name][places] = np.where(np.isfinite(values), values, np.nan)
        asked = {name: sum(len(at) for at, _ in found) for name, found in self.values.items()}
        chunks = [chunk for column in self.hashes for chunk in column.chunks]
        hashes = pa.chunked_array(chunks, pa.string()).fill_null("").combine_chunks()
        places = np.concatenate(self.places) if self.places else np.empty(0, np.int64)
        return ScoredClips(
            places,
            np.concatenate(self.good) if self.good else np.empty(0),
            scores,
            asked,
            self.applies[places],
            self.terms,
            tuple(np.concatenate(column) for column in zip(*self.verdicts, strict=True)),
            hashes,
            self.score_s,
            self.scorers,
            self.missing,
            condition,
            tuple(notes),
        )


def _condition(
    rows: Rows, roles: RowRoles, chosen: str, conditions: Mapping[str, str]
) -> tuple[str, Mask, list[str]]:
    """The condition that rows were judged by, the rows that it was given for, and notes."""
    everywhere = np.ones(len(rows), np.bool_)
    if chosen:
        return chosen, everywhere, []
    codes, runs = rows.codes("run_id")
    keeps = [conditions.get(run, "") for run in runs]
    of_clips = np.unique(codes[roles.clips])
    given = sorted({keeps[code] for code in of_clips} - {""})
    if len(given) == 1:
        mine = np.array([keep == given[0] for keep in keeps])
        return given[0], mine[codes], []
    if not given:
        judged = np.isfinite(rows.numbers("good")).any()
        lost = ["The condition that clips were judged by is not recorded."] if judged else []
        return "", everywhere, lost
    return (
        "",
        everywhere,
        [
            f"Runs judged their clips by different conditions: {'; '.join(given)}. "
            f"{called_as('score')} --keep judges all clips by one."
        ],
    )


def _floats(column: pa.ChunkedArray | pa.Array) -> Floats:
    """Numbers or booleans as floats, NaN where null."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _counts(column: pa.ChunkedArray | pa.Array) -> dict[str, int]:
    return {each["values"]: each["counts"] for each in pc.value_counts(column).to_pylist()}
