"""Scores that were given to the clips of a prefix after they were made, and the last `--keep`.

`scores/part-*.parquet` holds what `jobs/score.py` measured, and `scores/keep.json` the condition
that it was last given. Output rows are never rewritten: readers lay these scores over those of the
rows, and judge the rows by the last condition. A score counts for the very clip that it was
measured on: the hash of its mp4 is part of it. Of several values of one score the newest counts, as
does the newest version of a scorer.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.dataset.parts import read_beside, write_beside
from pipeline.dataset.struct_columns import SCORES_TYPE
from pipeline.errors import StorageError
from pipeline.scoring.conditions import Condition
from pipeline.storage.storage import Storage

FOLDER = "scores/"
PARTS = f"{FOLDER}part-"
KEEP_KEY = f"{FOLDER}keep.json"

STORED_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("media_sha256", pa.string()),
        ("scores", SCORES_TYPE),
        ("scorers", pa.list_(pa.string())),
        ("scores_missing", pa.string()),
        ("score_s", pa.float64()),
        ("perceptual_hash", pa.string()),
        ("scored_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""Columns of `scores/part-*.parquet`."""

_NEWEST = """
with named as (
    select sample_id, media_sha256, scored_at, each.name as name, each.value as value
    from (select sample_id, media_sha256, scored_at, unnest(scores) as each from parts)
), newest as (
    select sample_id, media_sha256, name, arg_max({'v': value}, scored_at).v as value
    from named group by all
)
select sample_id, media_sha256, list({'name': name, 'value': value} order by name) as scores,
    list(name order by name) as names
from newest group by all
"""
_VERSION = "'@[^@]*$'"
_FACTS = f"""
with asked as (
    select sample_id, media_sha256, scored_at, unnest(scorers) as scorer from parts
), newest as (
    select sample_id, media_sha256, regexp_replace(scorer, {_VERSION}, '') as name,
        arg_max(scorer, scored_at) as scorer
    from asked group by all
), by_clip as (
    select sample_id, media_sha256, list(scorer) as scorers, list(name) as scorer_names
    from newest group by all
)
select * from (
    select sample_id, media_sha256, arg_max(scores_missing, scored_at) as scores_missing,
        arg_max(perceptual_hash, scored_at) as perceptual_hash, sum(score_s) as score_s
    from parts group by all
) left join by_clip using (sample_id, media_sha256)
"""  # noqa: S608
_OVERLAY = f"""
select rows.* replace (
    case when newest.sample_id is null then rows.scores else list_concat(
        [one for one in coalesce(rows.scores, []) if not list_contains(newest.names, one.name)],
        newest.scores) end as scores,
    case when facts.sample_id is null then rows.scorers
        else list_sort(list_concat(
            [one for one in coalesce(rows.scorers, []) if not list_contains(
                coalesce(facts.scorer_names, []), regexp_replace(one, {_VERSION}, ''))],
            coalesce(facts.scorers, []))) end as scorers,
    coalesce(facts.scores_missing, rows.scores_missing) as scores_missing,
    coalesce(facts.perceptual_hash, rows.perceptual_hash) as perceptual_hash,
    coalesce(rows.score_s, 0) + coalesce(facts.score_s, 0) as score_s
)
from rows
left join newest on rows.sample_id = newest.sample_id and rows.media_sha256 = newest.media_sha256
left join facts on rows.sample_id = facts.sample_id and rows.media_sha256 = facts.media_sha256
order by rows.place
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class KeepChoice:
    """The condition that a prefix was last judged by.

    Attributes:
        keep: As `--keep`; "" where every row keeps what its run said.
        scores: Names of the scores that it may ask for.
    """

    keep: str = ""
    scores: tuple[str, ...] = ()


class StoredScores:
    """What is stored beside the rows of a prefix, read once."""

    def __init__(self, parts: pa.Table, choice: KeepChoice) -> None:
        """Merge stored scores.

        Args:
            parts: Rows of `STORED_SCHEMA`.
            choice: The condition that rows are judged by.

        Raises:
            UserError: The condition is invalid.
        """
        self._database = duckdb.connect(config={"threads": 2})
        self._database.register("parts", parts)
        for name, query in (("newest", _NEWEST), ("facts", _FACTS)):
            self._database.execute(f"create table {name} as {query}")
        self._database.unregister("parts")
        self._empty = not parts.num_rows
        self._judge_by(choice)

    def judged_by(self, choice: KeepChoice) -> StoredScores:
        """Judge rows by another condition from now on; returns itself.

        Raises:
            UserError: The condition is invalid.
        """
        self._judge_by(choice)
        return self

    def _judge_by(self, choice: KeepChoice) -> None:
        self.choice = choice
        self._condition = Condition(choice.keep, choice.scores) if choice.keep else None

    def over(self, rows: pa.Table) -> pa.Table:
        """Lay the stored scores over rows of `SCHEMA`, and judge them by the last condition."""
        schema = rows.schema
        if not self._empty:
            placed = rows.append_column("place", pa.array(range(rows.num_rows)))
            self._database.register("rows", placed)
            found = self._database.sql(_OVERLAY).to_arrow_table()
            self._database.unregister("rows")
            rows = found.drop_columns(["place"]).cast(schema)
        if self._condition is not None:
            rows = _judged(rows, self._condition)
        return rows


def judged(rows: pa.Table, choice: KeepChoice) -> pa.Table:
    """Rows of `SCHEMA` with the verdicts of a condition; as they are where there is none.

    Raises:
        UserError: The condition is invalid.
    """
    return _judged(rows, Condition(choice.keep, choice.scores)) if choice.keep else rows


def _judged(rows: pa.Table, condition: Condition) -> pa.Table:
    ok = [status == "ok" for status in rows["status"].to_pylist()]
    verdicts = zip(condition.of_table(rows), ok, strict=True)
    good = pa.array([value if made else None for value, made in verdicts], pa.bool_())
    at = rows.schema.get_field_index("good")
    return rows.set_column(at, rows.schema.field(at), good)


def read_stored(storage: Storage, choice: KeepChoice | None = None) -> StoredScores:
    """Read the scores and the condition that are stored in a prefix.

    Args:
        storage: The output prefix.
        choice: The condition that rows are judged by; None takes the stored one.

    Raises:
        UserError: The condition is invalid.
        StorageError: A file cannot be read, or is not ours.
    """
    parts = read_beside(storage, PARTS, STORED_SCHEMA)
    return StoredScores(parts, read_choice(storage) if choice is None else choice)


def read_choice(storage: Storage) -> KeepChoice:
    """Read the condition that a prefix was last judged by.

    Raises:
        StorageError: The file cannot be read, or is not ours.
    """
    if not storage.exists(KEEP_KEY):
        return KeepChoice()
    try:
        found = json.loads(storage.read_bytes(KEEP_KEY))
        return KeepChoice(str(found["keep"]), tuple(str(name) for name in found["scores"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{storage.uri}/{KEEP_KEY} is damaged: {error}") from error


def write_choice(storage: Storage, choice: KeepChoice) -> None:
    """Store the condition that the rows of a prefix are judged by from now on."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    value = {"keep": choice.keep, "scores": list(choice.scores), "since": now}
    storage.put_bytes(KEEP_KEY, (json.dumps(value, indent=2) + "\n").encode())


def write_scores(storage: Storage, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store a part of scores; it is visible whole or not at all.

    Args:
        storage: The output prefix.
        key: Name of the part behind `scores/part-`, unique in the prefix.
        rows: Values of `STORED_SCHEMA`.
    """
    write_beside(storage, PARTS, key, rows, STORED_SCHEMA)
