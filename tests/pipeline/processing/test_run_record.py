"""What the driver of a Dataset says and records while it executes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.processing import run_record
from pipeline.processing.rows_actor import RowsActor
from pipeline.processing.run_record import MAKES, RunRecord
from pipeline.scoring.stored_scores import KeepChoice
from pipeline.storage.storage import Storage


def stage(name: str, rows: int) -> Any:
    return SimpleNamespace(name=name, metrics=SimpleNamespace(rows_task_outputs_generated=rows))


def test_off_a_terminal_a_line_says_how_many_rows_there_are(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(run_record.time, "monotonic", lambda: now[0])
    record = RunRecord(storage, "r", {}, KeepChoice("", ()))
    assert RowsActor.__name__ == MAKES  # Ray Data names a stage after what it maps
    for seconds, rows in ((5.0, 0), (6.0, 0), (8.0, 1), (9.0, 1200), (1.0, 1300)):
        now[0] += seconds
        stages = [stage("MapBatches(IntakeActor)", 9), stage(f"MapBatches({MAKES})", rows)]
        record.on_execution_step(SimpleNamespace(_topology=stages))
    assert capsys.readouterr().err.splitlines() == [
        f"{storage.uri}: models load; no row yet after 11 s",
        f"{storage.uri}: 1,200 rows after 28 s",
    ]
