"""What a condition says of the finished clips of a prefix, and which condition that is.

The latest `--keep` of a run judges every clip, whichever run made it: reports, the index, exports
and the rows that a Dataset hands out go by it. A run without `--keep` leaves the condition as it
is. The rows themselves keep the verdicts of their own runs. A clip without one of the scores that
the condition needs is not judged.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.committed import Ids
from pipeline.dataset.parts import part_files
from pipeline.dataset.schema import SCHEMA
from pipeline.scoring.condition_terms import asked_scores
from pipeline.scoring.panel import ScorerPanel
from pipeline.scoring.score_prefix import clip_rows
from pipeline.scoring.stored_scores import (
    KeepChoice,
    StoredScores,
    read_choice,
    read_stored,
    write_choice,
)
from pipeline.storage.storage import Storage
from pipeline.wording import are, called_as, counted, quoted


@dataclass(slots=True)
class Verdicts:
    """How many clips are good, are not, and cannot be judged.

    Attributes:
        asked: Scores that the condition needs.
        by_value: Clips by their `good`.
        lacking: Clips that are not judged and lack a score that is needed.
    """

    asked: tuple[str, ...] = ()
    by_value: Counter[bool | None] = field(default_factory=Counter)
    lacking: int = 0

    def add(self, clips: pa.Table) -> None:
        """Count clips of the dataset, judged, in `SCHEMA`."""
        self.by_value.update(clips["good"].to_pylist())
        for scores in clips.filter(pc.is_null(clips["good"]))["scores"].to_pylist():
            known = {each["name"] for each in scores or () if each["value"] is not None}
            self.lacking += not known.issuperset(self.asked)

    @property
    def clips(self) -> int:
        """All of them."""
        return self.by_value.total()

    def text(self) -> str:
        """The numbers, for people."""
        good, unknown = self.by_value[True], self.by_value[None]
        verb = "is" if 1 in (good, self.clips) else "are"
        text = f"{good} of {counted(self.clips, 'clip')} {verb} good"
        if self.lacking:
            text += f", {self.lacking} not judged because scores are missing"
        if others := unknown - self.lacking:
            text += f", {others} not judged because a column that the condition needs is empty"
        return text


def dataset_clips(
    storage: Storage, stored: StoredScores, recovered: pa.Table
) -> Iterator[pa.Table]:
    """The rows of the clips of a dataset, judged: no controls, and only rows that count.

    Args:
        storage: The output prefix; it may be empty.
        stored: Judges them.
        recovered: Rows of clips that had lost theirs, in `SCHEMA`.

    Raises:
        StorageError: The prefix cannot be read.
    """
    for table in _all_rows(storage, stored, recovered):
        # Versions before controls wrote no such column.
        yield table.filter(pc.equal(table["control_of"], "").fill_null(True))


def not_good(storage: Storage, panel: ScorerPanel, recovered: pa.Table) -> Ids:
    """Judge every clip of a prefix by the condition of the run that begins now.

    Args:
        storage: The output prefix; it may be empty.
        panel: Holds the condition.
        recovered: Rows of clips that had lost theirs, in `SCHEMA`.

    Returns:
        Sorted ids of the clips that do not meet the condition.

    Raises:
        StorageError: The prefix cannot be read.
    """
    stored = read_stored(storage, KeepChoice(panel.keep, panel.names))
    ids = [
        table.filter(pc.equal(table["good"], False).fill_null(False))["sample_id"]
        for table in _all_rows(storage, stored, recovered)
    ]
    chunks = [chunk for each in ids for chunk in each.chunks]
    return Ids.from_hex(pa.chunked_array(chunks, pa.string())).sorted()


def _all_rows(storage: Storage, stored: StoredScores, recovered: pa.Table) -> Iterator[pa.Table]:
    if part_files(storage):
        yield from clip_rows(storage, stored)
    yield stored.over(recovered)


@dataclass(frozen=True, slots=True)
class PrefixCondition:
    """The condition of a prefix, before a run and from then on.

    Attributes:
        storage: The output prefix.
        before: As it was.
        choice: As it is from now on.
        scorers: Of the run, as `--scorers` takes them.
        verdicts: On the clips that are there already, if the condition is another one now.
    """

    storage: Storage
    before: KeepChoice
    choice: KeepChoice
    scorers: tuple[str, ...] = ()
    verdicts: Verdicts | None = None

    @classmethod
    def of(
        cls,
        storage: Storage,
        own: KeepChoice,
        scorers: Sequence[str],
        recovered: pa.Table | None = None,
    ) -> PrefixCondition:
        """Find out what the condition of a run changes; this writes nothing.

        Only another condition is tried on the clips that are there, because that reads their rows.

        Args:
            storage: The output prefix; it may be empty.
            own: The condition of the run; without `keep` that of the prefix stays.
            scorers: Of the run, as `--scorers` takes them.
            recovered: Rows of clips that had lost theirs, in `SCHEMA`.

        Raises:
            StorageError: The prefix cannot be read.
        """
        before = read_choice(storage)
        choice = own if own.keep else before
        if choice.keep == before.keep:
            return cls(storage, before, choice, tuple(scorers))
        asked = asked_scores(choice.keep, choice.scores, "--keep")
        verdicts = Verdicts(asked)
        lost = SCHEMA.empty_table() if recovered is None else recovered
        for table in dataset_clips(storage, read_stored(storage, choice), lost):
            verdicts.add(table)
        return cls(storage, before, choice, tuple(scorers), verdicts)

    def store(self) -> None:
        """Let the prefix be judged by it from now on."""
        if self.choice != self.before:
            write_choice(self.storage, self.choice)

    def lines(self, keep: str, *, dry_run: bool = False) -> Iterator[str]:
        """What a run says of it when it begins.

        Args:
            keep: The condition of the run itself, "" without one.
            dry_run: Whether nothing changes yet.
        """
        if self.choice.keep and not keep:
            yield (
                f"The condition of this prefix stays, because this run sets no --keep: a good clip "
                f"has {self.choice.keep}"
            )
        found = self.verdicts
        if found is None or not found.clips:
            return
        was = f"was: {self.before.keep}" if self.before.keep else "there was none"
        would = "would judge this prefix" if dry_run else "judges this prefix from now on"
        yield (
            f"Another condition {would}: {self.choice.keep} ({was}). It holds for the clips of "
            f"earlier runs too: {found.text()}"
        )
        if found.lacking:
            command = f"{called_as('score')} --output {shlex.quote(self.storage.uri)}"
            scorers = ",".join(self.scorers)
            if scorers != "basic":
                command += f" --scorers {shlex.quote(scorers)}"
            yield (
                f"{counted(found.lacking, 'clip')} of earlier runs {are(found.lacking)} not judged "
                f"for want of scores; to score them: {command} --keep {quoted(self.choice.keep)}"
            )
