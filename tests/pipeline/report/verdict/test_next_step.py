"""A step that runs the pipeline again shows the command of the run in question."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from pipeline.config.run_config import load_config
from pipeline.report.document import ReportVerdict
from pipeline.report.pricing.prices import Prices
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import measure, row, write


def record(storage: Storage, run: str, *flags: str, program: bool = False) -> None:
    config = load_config(["--prompts", "p.csv", "--output", "elsewhere", *flags])
    record: dict[str, Any] = {"run_id": run, "state": "done", "config": config.to_dict()}
    record["input"] = {} if program else {"pending": 2}
    storage.put_bytes(f"runs/{run}.json", json.dumps(record).encode())


def verdict(storage: Storage) -> ReportVerdict:
    found = measure(storage, Prices()).verdict
    assert found is not None
    return found


def test_controls_are_asked_for_by_the_whole_command(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0), row(1)])
    record(storage, "r1", "--cache.quality", "fast")
    found = verdict(storage)
    assert found.next == (
        "Run this in the folder in which it was started: it makes uncached twins of all clips, "
        "which measure what caching wins and changes:"
    )
    words = shlex.split(found.command)
    again = load_config(words[2:])
    wanted = ["--prompts", "p.csv", "--output", str(tmp_path), "--control-fraction", "1"]
    assert again == load_config([*wanted, "--cache.quality", "fast"])


def test_of_several_commands_the_latest_is_meant_and_said(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0), row(1, run="r2")])
    record(storage, "r1", "--cache.quality", "fast")
    record(storage, "r2", "--control-fraction", "0.1")
    found = verdict(storage)
    assert found.next.startswith("Run this, the latest of 2 different commands, in the folder")
    assert found.command.count("--control-fraction") == 1
    assert load_config(shlex.split(found.command)[2:]).control_fraction == 1.0


def test_a_program_is_told_which_setting_to_change(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0), row(1)])
    record(storage, "r1", program=True)
    found = verdict(storage)
    assert found.next.startswith(
        'Run the program of run r1 again with the setting "control_fraction": 1: it makes'
    )
    assert found.command == ""


def test_failed_samples_are_tried_again_by_the_whole_command(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0), row(1, status="failed")])
    record(storage, "r1")
    found = verdict(storage)
    assert "read the causes under Failures first" in found.next
    assert load_config(shlex.split(found.command)[2:]).retry_failed
