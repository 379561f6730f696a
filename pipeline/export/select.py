"""Selects the clips of an export, with their order, split and shard, from rows and flags alone.

Reads the Parquet parts and never media. Of several rows with one id the one that counts is used.
Clips of one prompt are in one split, whatever their seeds and settings are; or clips with the same
value in a column of the input.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from pipeline.dataset.schema import SCHEMA
from pipeline.errors import UserError
from pipeline.export.buckets import bucket_sql
from pipeline.export.chosen import LackingClips
from pipeline.export.spool import Spool
from pipeline.prompts.column_names import close_name
from pipeline.requests.sample_request import digest
from pipeline.scoring.condition_terms import refuse_changing, said_inputs
from pipeline.storage.storage import Storage
from pipeline.wording import counted

SHARD_ROWS, SHARD_ROWS_WITH_TENSORS = 500, 100
"""Most clips per shard by default. A shard is made in memory, and latents of a clip can be larger
than its mp4."""
SHARD_TENSOR_BYTES = 2_000_000_000
"""Most bytes of tensors per shard by default; a trajectory is fifty times as large as its clip."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Clips that are written together.

    Attributes:
        split: Name of the split.
        number: Number of the shard within its split and bucket, from 0.
        of: Number of shards of these.
        start: Place of its first row among the chosen ones.
        clips: Number of its rows.
        spool: Holds the rows.
        recaptions: Whether the caption of a clip is the one that was written from its frames.
        bucket: Bucket of its clips; "" where all are in one.
        tensors: Whether tensors are exported, where clips have them.
    """

    split: str
    number: int
    of: int
    start: int
    clips: int
    spool: Spool = field(repr=False, compare=False)
    recaptions: bool = False
    bucket: str = ""
    tensors: bool = False

    @property
    def label(self) -> str:
        """Split and bucket, as names of files begin."""
        return f"{self.split}-{self.bucket}" if self.bucket else self.split

    @property
    def ids(self) -> list[str]:
        """Sample ids in order."""
        return self.spool.ids(self.start, self.clips)

    def rows(self) -> list[dict[str, Any]]:
        """Read the output rows, in the order of their ids."""
        return self.spool.rows(self.start, self.clips)

    def caption(self, row: Mapping[str, Any]) -> str:
        """The caption that a clip is exported with; its prompt where it has no other one."""
        text: str = (row["recaption"] if self.recaptions else "") or row["caption"]
        return text


@dataclass(frozen=True, slots=True)
class Selection:
    """The content of an export; a context manager, which deletes its temporary files.

    Attributes:
        shards: The shards in order.
        spool: Holds the rows.
        lacking: Clips without a value in a column of the input that a flag asks for.
        with_prompt: Clips that have no caption from frames, where these are exported; they keep
            their prompt.
        without: Clips that are left out because they lack the tensors that the format needs.
        with_tensors: Clips whose tensors are exported.
        texts: Number of different texts (prompts, or values to split by) that decide splits.
    """

    shards: tuple[Shard, ...]
    spool: Spool = field(repr=False, compare=False)
    lacking: tuple[LackingClips, ...] = ()
    with_prompt: int = 0
    without: int = 0
    with_tensors: int = 0
    texts: int = 0

    @property
    def clips(self) -> int:
        """Number of clips."""
        return sum(shard.clips for shard in self.shards)

    def __enter__(self) -> Selection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.spool.close()


def parse_splits(text: str) -> dict[str, float]:
    """Read `train=0.9,val=0.1`; shares are scaled to add up to 1.

    Raises:
        UserError: The text has another form, or a single split has less than 1.
    """
    splits: dict[str, float] = {}
    for item in text.split(","):
        name, _, share = item.partition("=")
        try:
            weight = float(share) if share else 1.0
        except ValueError:
            weight = -1.0
        if not name.isidentifier() or name in splits or not 0 < weight < 1e9:
            raise UserError(f"--splits {text}: should be like train=0.9,val=0.1")
        splits[name] = weight
    total = sum(splits.values())
    if len(splits) == 1 and total < 1:
        raise UserError(
            f"--splits {text}: should name the split of the other clips too, as in "
            f"{text},rest={1 - total:g}; shares are scaled to add up to 1, so a split alone gets "
            "all clips"
        )
    return {name: weight / total for name, weight in splits.items()}


def split_of(prompt: str, splits: Mapping[str, float]) -> str:
    """Return the split of the clips of a prompt, or of another text that they share.

    It depends on the text alone, so no prompt is in two splits, and it stays as a dataset grows.
    """
    drawn = drawn_for(prompt) / 2**64
    for name, share in splits.items():
        drawn -= share
        if drawn < 0:
            return name
    return list(splits)[-1]


def drawn_for(text: str) -> int:
    """The number from 0 to 2^64-1 that is drawn for a text; it depends on the text alone."""
    return int.from_bytes(digest(["split", text])[:8], "big")


def select(
    storage: Storage,
    *,
    where: str = "",
    splits: Mapping[str, float],
    shard_rows: int = 0,
    controls: bool = False,
    split_by: str = "",
    recaptions: bool = False,
    stratify_by: str = "",
    bucket_by: str = "",
    tensors: bool = True,
    needs: Sequence[str] = (),
    seeds: Mapping[str, int] | None = None,
) -> Selection:
    """Select clips and divide them into splits and shards.

    Args:
        storage: The output prefix.
        where: An SQL condition (DuckDB) over the columns of output rows; "" selects all.
        splits: Share of the prompts by name of the split.
        shard_rows: Largest number of clips per shard; 0 for `SHARD_ROWS`, or fewer with tensors.
        controls: Include controls.
        split_by: Column of the input whose value decides the split; "" is the prompt.
        recaptions: Export the captions that were written from frames, in place of prompts.
        stratify_by: An SQL value over output rows: the clips of each value are divided in the
            shares of the splits, as exactly as whole prompts allow. "" divides all together.
        bucket_by: What a shard's clips have in common (`pipeline.export.buckets`); "" for nothing.
        tensors: Export tensors where clips have them.
        needs: Kinds of tensors that each clip must have; the others are left out.
        seeds: The seed of each run that gave one to all its rows.

    Raises:
        UserError: The condition or the value to stratify by is invalid, no row has the column to
            split by, or no clip is left.
        StorageError: The prefix cannot be read.
    """
    names, bucket = list(splits), bucket_sql(bucket_by)
    refuse_changing(where, "--where")
    refuse_changing(stratify_by, "--stratify-by")
    spool = Spool(storage, seeds)
    try:
        spool.check(where)
        filled = spool.fill(
            storage,
            lambda text: (names.index(split_of(text, splits)), drawn_for(text)),
            split_by,
        )
        if split_by and filled.by_prompt == filled.rows:
            near = close_name(split_by, spool.inputs())
            meant = f" (did you mean {near}?)" if near else ""
            if split_by in SCHEMA.names:
                meant = f" (it is a column of the rows: --stratify-by {split_by} divides by it)"
            raise UserError(
                f"--split-by {split_by}: no row of {storage.uri} keeps a column of this "
                f"name{meant}; {said_inputs(spool.inputs())}"
            )
        usual = "status = 'ok'" + ("" if controls else " and coalesce(control_of, '') = ''")
        ends = list(itertools.accumulate(splits.values()))[:-1]
        having = " and ".join(f"contains(tensors.saved, '{kind}')" for kind in needs) or "true"
        chosen = spool.choose(usual, where, stratify_by, ends, bucket, having, split_by)
        if not chosen.clips:
            met = f" and {where}" if where else ""
            if chosen.without:
                raise UserError(
                    f"{storage.uri}: no clip is ok{met} and has {' and '.join(needs)} "
                    f"({counted(chosen.without, 'clip')} without); make clips with "
                    f"--save {','.join(needs)}"
                )
            inputs = f"; {said_inputs(spool.inputs())}" if "source" in where else ""
            some = (each for each in chosen.lacking if each.clips < each.of)
            inputs += "".join(f"; {each.counts()}" for each in some)
            raise UserError(f"{storage.uri}: no clip is ok{met}{inputs}")
        return replace(
            _sharded(spool, names, shard_rows, recaptions, tensors),
            lacking=chosen.lacking,
            without=chosen.without,
            texts=chosen.texts,
        )
    except BaseException:
        spool.close()
        raise


def _sharded(
    spool: Spool, names: list[str], shard_rows: int, recaptions: bool, tensors: bool
) -> Selection:
    counts: Counter[tuple[int, str]] = Counter()
    with_tensors = largest = 0
    for split, bucket, _, _, sha256, size in spool.heads():
        counts[split, bucket] += 1
        with_tensors += tensors and bool(sha256)
        largest = max(largest, size)
    most = shard_rows or SHARD_ROWS
    if with_tensors and not shard_rows:
        most = max(1, min(SHARD_ROWS_WITH_TENSORS, SHARD_TENSOR_BYTES // largest))
    shards: list[Shard] = []
    start = 0
    for (split, bucket), count in counts.items():
        of = -(-count // most)
        for place in range(of):
            size = min(most, count - place * most)
            own = (spool, recaptions, bucket, bool(with_tensors))
            shards.append(Shard(names[split], place, of, start, size, *own))
            start += size
    with_prompt = sum(not text for _, text in spool.recaptions()) if recaptions else 0
    return Selection(
        tuple(shards),
        spool,
        with_prompt=with_prompt,
        with_tensors=with_tensors,
    )
