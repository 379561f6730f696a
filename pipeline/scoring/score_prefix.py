"""Scores the clips of an existing prefix, and judges them anew; the same call again goes on.

Nothing is scored twice: a scorer is not asked again about a clip that has all of its scores, by the
same version, in its row or stored for that very clip. A score that is missing is tried again. Clips
are read and scored by a function that the caller gives, on a cluster
(`pipeline.cluster.clip_stage`) or here.
"""

from __future__ import annotations

import datetime
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset import mp4
from pipeline.dataset.committed import resolve
from pipeline.dataset.parts import conform, foreign, read_parts
from pipeline.dataset.schema import SCHEMA
from pipeline.dataset.whole_clips import DamagedClipError, read_clip
from pipeline.errors import StorageError, message_of
from pipeline.prefix.needed_parts import needed_parts
from pipeline.scoring.panel import ScorerPanel
from pipeline.scoring.scorer import ScoredClip, Scorer
from pipeline.scoring.stored_scores import StoredScores, write_scores
from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage

PART_ROWS, PART_SECONDS = 1000, 30.0
"""Scores are stored after so many clips or seconds, whichever comes first."""

_ROW_COLUMNS = [name for name in SCHEMA.names if name != "video"]

ScoreClips = Callable[[pa.Table, tuple[str, ...]], Iterable[pa.Table]]
"""From rows of `SCHEMA` and names of scorers to tables of `STORED_SCHEMA`, in any order."""


@dataclass(slots=True)
class ScoredPrefix:
    """What became of the clips of a prefix.

    Attributes:
        clips: Clips that there are.
        before: Those that had every score already.
        scored: Those that were scored now.
        missing: How often a score could not be given, by reason.
        score_s: Thread seconds of scoring.
    """

    clips: int = 0
    before: int = 0
    scored: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    score_s: float = 0.0


def score_prefix(
    storage: Storage,
    names: Sequence[str],
    scorers: Sequence[Scorer],
    score: ScoreClips,
    stored: StoredScores,
    *,
    progress: Callable[[ScoredPrefix], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> ScoredPrefix:
    """Give every clip the scores that it lacks, and store them as they come.

    Args:
        storage: The output prefix.
        names: The scorers, as `--scorers` takes them, sets expanded.
        scorers: The same, loaded, in the same order.
        score: Scores clips.
        stored: The scores that the prefix holds already.
        progress: Called after each table.
        clock: Monotonic seconds.

    Raises:
        UserError: The prefix holds no parts.
        StorageError: The prefix cannot be read or written.
    """
    done = ScoredPrefix()
    lacking: defaultdict[tuple[str, ...], list[pa.Table]] = defaultdict(list)
    for table in clip_rows(storage, stored):
        done.clips += table.num_rows
        groups: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, (asked, scores) in enumerate(_scored(table)):
            missing = [
                name
                for name, scorer in zip(names, scorers, strict=True)
                if f"{scorer.name}@{scorer.version}" not in asked
                or any(scores.get(score) is None for score in scorer.scores)
            ]
            groups[tuple(missing)].append(place)
        done.before += len(groups.pop((), []))
        for some, places in groups.items():
            lacking[some].append(table.take(pa.array(places)))
    session = secrets.token_hex(4)
    number = 0
    for some, tables in lacking.items():
        for table in in_parts(score(pa.concat_tables(tables), some), clock):
            write_scores(storage, f"{session}-{number:05d}", table.to_pylist())
            number += 1
            _count(done, table)
            progress(done)
    return done


def _scored(table: pa.Table) -> Iterator[tuple[list[str], dict[str, float | None]]]:
    """Which scorers each row was asked about, and its scores."""
    columns = table["scorers"].to_pylist(), table["scores"].to_pylist()
    for asked, scores in zip(*columns, strict=True):
        yield asked or [], {each["name"]: each["value"] for each in scores or ()}


def clip_rows(storage: Storage, stored: StoredScores) -> Iterator[pa.Table]:
    """The rows of the clips of a prefix that count, with the stored scores; a table per part.

    Raises:
        UserError: The prefix holds no parts.
        StorageError: A part cannot be read or is not ours.
    """
    files = needed_parts(storage)
    heads = pa.concat_tables(read_parts(storage, files, _reader(storage, ["sample_id", "status"])))
    places = pa.array(range(heads.num_rows))
    try:
        winners = set(resolve(heads.append_column("place", places))["place"].to_pylist())
    except ValueError as error:
        raise StorageError(f"{storage.uri}/data: {error}") from error
    first = 0
    for table in read_parts(storage, files, _reader(storage, None)):
        ok = table["status"].to_pylist()
        kept = [at for at in range(table.num_rows) if first + at in winners and ok[at] == "ok"]
        first += table.num_rows
        if kept:
            yield stored.over(table.take(pa.array(kept)))


def _reader(
    storage: Storage, columns: Sequence[str] | None
) -> Callable[[Any, StoredFile], pa.Table]:
    """What reads a part: some columns, or all of `SCHEMA` but the bytes of clips."""

    def read(opened: Any, file: StoredFile) -> pa.Table:
        try:
            part = pq.ParquetFile(opened)
            if columns is not None:
                return part.read(columns=list(columns), use_threads=False)
            names = [n for n in _ROW_COLUMNS if n in part.schema_arrow.names]
            table = part.read(columns=[*names, "video.path"], use_threads=False)
            return conform(table.replace_schema_metadata(None))
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise foreign(f"{storage.uri}/{file.key}", error) from error

    return read


def score_row(storage: Storage, panel: ScorerPanel, row: Mapping[str, Any]) -> dict[str, Any]:
    """Read the clip of a row and score it, as a row of `STORED_SCHEMA`.

    A clip that is missing or damaged has no scores, and the row says so.

    Raises:
        StorageError: The store cannot be read.
    """
    now = datetime.datetime.now(datetime.UTC)
    own = {name: row[name] for name in ("sample_id", "media_sha256")} | {"scored_at": now}
    try:
        frames = mp4.decode(read_clip(storage, row))
    except (DamagedClipError, ValueError) as error:
        return own | panel.unreadable(message_of(error)).to_row()
    return own | panel.score(ScoredClip(frames, row["fps"], row["caption"], row)).to_row()


def in_parts(tables: Iterable[pa.Table], clock: Callable[[], float]) -> Iterator[pa.Table]:
    """Join tables until one is worth a file; what an interruption leaves is passed on first."""
    waiting: list[pa.Table] = []
    since = clock()
    try:
        for table in tables:
            waiting.append(table)
            rows = sum(each.num_rows for each in waiting)
            if rows >= PART_ROWS or clock() - since >= PART_SECONDS:
                yield pa.concat_tables(waiting)
                waiting, since = [], clock()
    except KeyboardInterrupt:
        if waiting:
            yield pa.concat_tables(waiting)
        raise
    if waiting:
        yield pa.concat_tables(waiting)


def _count(done: ScoredPrefix, table: pa.Table) -> None:
    done.scored += table.num_rows
    done.score_s += sum(table["score_s"].to_pylist())
    done.missing.update(reason for reason in table["scores_missing"].to_pylist() if reason)
