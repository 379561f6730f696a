"""Keeps the manifest of a Dataset's execution in the output prefix, as `pipeline.run` does."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from rich.console import Console

from pipeline.cluster.ray_compat import ExecutionCallback, executes, rows_given
from pipeline.dataset.committed import committed
from pipeline.dataset.manifest import Manifest, State, all_runs
from pipeline.dataset.parts import missing_parts, named_parts, part_files
from pipeline.dataset.recovery import recover
from pipeline.errors import StorageError, message_of
from pipeline.interrupt import STOPPED
from pipeline.monitoring.prefix_lines import say_recovery
from pipeline.monitoring.progress import duration
from pipeline.prefix.first_card import write_first_card
from pipeline.processing.rows_actor import store_part
from pipeline.scoring.stored_scores import KeepChoice
from pipeline.scoring.verdicts import PrefixCondition
from pipeline.storage.storage import Storage
from pipeline.wording import counted

SAY_EVERY_S = 10.0
_WIDTH = 100_000
"""Columns of the console: one line a text."""
MAKES = "RowsActor"
"""What the name of the stage that makes rows holds (`pipeline.processing.rows_actor`). The stage
that stores them shares its tasks with the program's own stages, which may drop rows."""


class RunRecord(ExecutionCallback):
    """Writes the manifest when an execution starts, regularly, and when it ends.

    Ray Data makes one for each execution of the Dataset, on the driver. Off a terminal, where Ray
    Data's own progress is a table of many lines, it also says how many rows there are.
    """

    def __init__(
        self,
        storage: Storage,
        run_id: str,
        config: Mapping[str, Any],
        own: KeepChoice,
        scorers: Sequence[str] = (),
    ) -> None:
        """Prepare; this writes nothing.

        Args:
            storage: The output prefix.
            run_id: Of the run.
            config: Its settings as JSON values.
            own: Its condition of good clips, if it has one.
            scorers: As `--scorers` takes them.
        """
        self._storage, self._own, self._scorers = storage, own, scorers
        self._manifest = Manifest(run_id, config, {})
        self._alive = ExitStack()
        self._is_ours = False
        self._began = self._said = time.monotonic()

    def before_execution_starts(self, executor: Any) -> None:
        """Announce the run in the prefix with its condition, unless nothing of it is executed.

        The prefix gets rows back first that it has lost.
        """
        self._is_ours = executes(executor, self._manifest.run_id)
        if not self._is_ours:
            return
        if self._storage.exists(key := f"runs/{self._manifest.run_id}.json"):
            # The Dataset is executed once more, under the same id.
            before = json.loads(self._storage.read_bytes(key))
            self._manifest.started_at = before["started_at"]
            self._manifest.searched = before.get("searched") or {}
        self._take_over()
        condition = PrefixCondition.of(self._storage, self._own, self._scorers)
        for line in condition.lines(self._own.keep):
            sys.stderr.write(f"{self._storage.uri}: {line}\n")
        self._manifest.write(self._storage)
        write_first_card(self._storage)
        condition.store()
        self._alive.enter_context(self._manifest.alive(self._storage))
        self._began = self._said = time.monotonic()

    def _take_over(self) -> None:
        """Take clips over whose rows were in parts that are gone, before the rows are read."""
        runs = all_runs(self._storage)
        if not missing_parts(part_files(self._storage), runs):
            return
        found = recover(self._storage, committed(self._storage), runs)
        store_part(self._storage, self._manifest.run_id, found.rows)
        self._manifest.searched = {**self._manifest.searched, **found.searched}
        say_recovery(Console(file=sys.stderr, width=_WIDTH), found)

    def on_execution_step(self, executor: Any) -> None:
        """Say how many rows are made, every ten seconds."""
        now = time.monotonic()
        if self._is_ours and now - self._said >= SAY_EVERY_S and not sys.stdout.isatty():
            self._said = now
            rows, since = rows_given(executor, MAKES), duration(now - self._began)
            text = counted(rows, "row", grouped=True) if rows else "models load; no row yet"
            sys.stderr.write(f"{self._storage.uri}: {text} after {since}\n")

    def after_execution_succeeds(self, executor: Any) -> None:
        """Record that the execution has ended, be it because the program wanted no more rows."""
        self._end("done")

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Record why the execution has failed."""
        if isinstance(error, STOPPED):
            self._end("interrupted")
        else:
            self._end("error", f"{type(error).__name__}: {message_of(error)}")

    def _end(self, state: State, problem: str = "") -> None:
        if not self._is_ours:
            return
        self._alive.close()
        try:
            self._manifest.named_parts = named_parts(
                part_files(self._storage), self._manifest.run_id
            )
        except StorageError as error:  # the execution is over, and its outcome counts
            sys.stderr.write(f"which parts of rows are stored is not recorded: {error}\n")
        self._manifest.end(self._storage, state, {}, problem)
