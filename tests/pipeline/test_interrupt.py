"""A signal commits what is finished before anything is stopped."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from pipeline import run as run_module
from pipeline.config.run_config import RunConfig
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import Provenance, SampleOutcome, make_row, to_table
from pipeline.interrupt import interruptible, kept_as_stop, stopping_first
from tests.pipeline.attempts.runners import requests


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def table() -> pa.Table:
    failed = SampleOutcome("failed", "ValueError", "no")
    return to_table([make_row(requests("a")[0], Provenance("r"), failed)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "number"), [("waiting", signal.SIGINT), ("adding", signal.SIGTERM)]
)
def test_rows_and_manifest_are_written_before_the_cluster_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, number: int
) -> None:
    output = tmp_path / "out"
    seen: dict[str, Any] = {}

    def execute(*_: Any) -> Iterator[pa.Table]:
        try:
            yield table()
            if when == "waiting":
                send(number)
            yield table()
        finally:  # Ray Data stops here, which takes long; the node may be gone before its end
            seen["parts"] = len(list(output.glob("data/part-*.parquet")))
            (manifest,) = output.glob("runs/*.json")
            seen["state"] = json.loads(manifest.read_text())["state"]

    add = PartWriter.add

    def add_and_stop(self: PartWriter, rows: pa.Table) -> None:
        add(self, rows)
        if rows.num_rows and when == "adding":
            send(number)

    monkeypatch.setattr(run_module, "execute", execute)
    monkeypatch.setattr(PartWriter, "add", add_and_stop)
    (tmp_path / "p.txt").write_text("a\nb\n")
    config = RunConfig.model_validate(
        {
            "prompts": str(tmp_path / "p.txt"),
            "output": str(output),
            "cache": {"policy": "none"},
            "part_rows": 1000,
            "part_seconds": 3600.0,
        }
    )
    text = io.StringIO()
    result = run_module.run(config, console=Console(file=text, width=300))
    assert result.interrupted
    assert seen == {"parts": 1, "state": "interrupted"}
    assert len(list(output.glob("data/part-*.parquet"))) == 1
    # Who presses Ctrl-C gets the report; what is told to end says how to make it.
    page, command = output / "report/index.html", f"jobs/report.py --output {output}"
    by_hand = number == signal.SIGINT
    assert page.exists() == by_hand
    assert (f"report: {output}" in text.getvalue()) == by_hand
    assert (command in text.getvalue()) != by_hand


def test_what_comes_first_does_so_within_its_block_only() -> None:
    done: list[str] = []
    with interruptible():
        with pytest.raises(KeyboardInterrupt), stopping_first(lambda: done.append("first")):
            send()
        assert done == ["first"]
        with pytest.raises(KeyboardInterrupt):
            send()
    assert done == ["first"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_within_a_query_stays_a_stop(number: int) -> None:
    import duckdb

    # Far longer than the signal takes to come; DuckDB ends it then.
    endless = "select sum(a.range * b.range) from range(100000000) a, range(100000) b"
    sender = threading.Timer(0.5, send, [number])
    with duckdb.connect(config={"threads": 1}) as database, interruptible():
        sender.start()
        with pytest.raises(KeyboardInterrupt), kept_as_stop():
            database.execute(endless).fetchall()
    sender.join()


def test_errors_without_a_signal_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="interrupted"), interruptible():
        raise RuntimeError("Query interrupted")


def test_other_errors_after_a_signal_stay_what_they_are() -> None:
    def cleaned_up() -> None:
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        raise ValueError("another error after it")

    with pytest.raises(ValueError, match="another error"), interruptible():
        cleaned_up()
