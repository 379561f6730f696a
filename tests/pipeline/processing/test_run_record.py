"""What the driver of a Dataset says and records while it executes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.dataset.manifest import Manifest, all_runs
from pipeline.prefix.first_card import is_marked
from pipeline.processing import run_record
from pipeline.processing.rows_actor import RowsActor
from pipeline.processing.run_record import MAKES, RunRecord
from pipeline.scoring.stored_scores import KeepChoice, read_choice, write_choice
from pipeline.storage.storage import Storage
from tests.pipeline.scoring.test_prefix_condition import write_clips

RUN = "20260101T000000Z-abc123"


def stage(name: str, rows: int) -> Any:
    return SimpleNamespace(name=name, metrics=SimpleNamespace(rows_task_outputs_generated=rows))


def execution(*arguments: Any) -> Any:
    """An executor whose only stage maps a function with arguments."""
    logical = SimpleNamespace(fn_args=arguments)
    return SimpleNamespace(_topology=[SimpleNamespace(_logical_operators=[logical])])


def test_the_condition_of_an_execution_becomes_that_of_the_prefix(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    write_choice(storage, KeepChoice("motion > 0.1", ("motion",)))
    write_clips(storage, [0.05, 0.5])
    RunRecord(storage, "r1", {}, KeepChoice("", ("motion",))).before_execution_starts(
        execution("r1")
    )
    assert read_choice(storage).keep == "motion > 0.1"
    own = KeepChoice("motion > 0.9", ("motion",))
    RunRecord(storage, "r2", {}, own).before_execution_starts(execution("r2"))
    assert read_choice(storage) == own
    assert capsys.readouterr().err.splitlines() == [
        f"{storage.uri}: The condition of this prefix stays, because this run sets no --keep: a "
        "good clip has motion > 0.1",
        f"{storage.uri}: Another condition judges this prefix from now on: motion > 0.9 (was: "
        "motion > 0.1). It holds for the clips of earlier runs too: 0 of 2 clips are good",
    ]


def test_off_a_terminal_a_line_says_how_many_rows_there_are(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(run_record.time, "monotonic", lambda: now[0])
    record = RunRecord(storage, "r", {}, KeepChoice("", ()))
    record.before_execution_starts(execution("r"))
    assert RowsActor.__name__ == MAKES  # Ray Data names a stage after what it maps
    for seconds, rows in ((5.0, 0), (6.0, 0), (8.0, 1), (9.0, 1200), (1.0, 1300)):
        now[0] += seconds
        stages = [stage("MapBatches(IntakeActor)", 9), stage(f"MapBatches({MAKES})", rows)]
        record.on_execution_step(SimpleNamespace(_topology=stages))
    assert capsys.readouterr().err.splitlines() == [
        f"{storage.uri}: models load; no row yet after 11 s",
        f"{storage.uri}: 1,200 rows after 28 s",
    ]
    record.after_execution_succeeds(SimpleNamespace())


def test_only_an_execution_of_the_run_itself_is_recorded(storage: Storage) -> None:
    choice = KeepChoice("motion > 0.1", ("motion",))
    record = RunRecord(storage, RUN, {}, choice)
    other = execution(storage, "another", 5)
    record.before_execution_starts(other)
    record.on_execution_step(other)
    record.after_execution_fails(other, ValueError("not ours"))
    assert storage.list() == []
    record.before_execution_starts(execution(storage, RUN))
    record.after_execution_succeeds(other)
    written = ["README.md", f"runs/{RUN}.json", "scores/keep.json"]
    assert [entry.key for entry in storage.list()] == written
    assert is_marked(storage)
    (run,) = all_runs(storage)
    assert run.state == "done"


def test_a_second_execution_leaves_the_beginning_of_the_first(storage: Storage) -> None:
    began = "2026-01-01T00:00:00+00:00"
    Manifest("r", {}, {}, started_at=began).end(storage, "done", {})
    record = RunRecord(storage, "r", {}, KeepChoice("", ()))
    record.before_execution_starts(execution("r"))
    assert json.loads(storage.read_bytes("runs/r.json"))["state"] == "running"
    record.after_execution_succeeds(execution("r"))
    found = json.loads(storage.read_bytes("runs/r.json"))
    assert (found["state"], found["started_at"]) == ("done", began)
