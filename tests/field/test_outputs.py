"""Damaged, mixed and hostile output prefixes, read through the jobs that people run."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from jobs.report import main as report
from pipeline.dataset import mp4
from pipeline.dataset.committed import committed
from pipeline.dataset.schema import Provenance, SampleOutcome, make_row
from pipeline.monitoring.prefix_lines import say_settings
from pipeline.requests.controls import control_for
from pipeline.requests.run_settings import settings_text
from pipeline.requests.sample_request import CacheIdentity
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import SAMPLE, row, write

BUDGET = '{"budget": 0.34}'

EVIL = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    "[a](javascript:alert(3)) | `x` \x1b[2J\x1b]0;owned\x07"
)


def hostile(value: Any, name: str = "") -> Any:
    if name in ("sample_id", "status", "media_sha256", "control_of", "path"):
        return value
    if isinstance(value, dict):
        return {key: hostile(each, key) for key, each in value.items()}
    return EVIL + name if isinstance(value, str) else value


def test_text_of_a_hostile_part_is_text_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(0), row(0, control=True, psnr=30.0, up=50.0), row(1, status="failed")]
    write(tmp_path, [hostile(each) for each in rows])
    assert report(["--output", str(tmp_path), "--price", "1"]) == 0
    said = capsys.readouterr()
    card = (tmp_path / "README.md").read_text()
    page = (tmp_path / "report/index.html").read_text()
    for text in (said.out, said.err, card):
        assert "\x1b[2J" not in text
        assert "\x1b]0;" not in text
    _, front, body = card.split("---\n", 2)
    assert "<script" not in body
    assert "<img" not in body
    assert "[a](javascript" not in body
    assert yaml.safe_load(front)["task_categories"] == ["text-to-video"]
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page


NULLS = ("caption", "model", "num_inference_steps", "cache", "wall_s", "seed", "seed_u64", "fps")


@pytest.mark.parametrize("cell", NULLS)
def test_a_part_with_an_empty_cell_has_a_report(tmp_path: Path, cell: str) -> None:
    rows = [row(0), row(0, control=True, psnr=30.0, up=50.0), row(1)]
    write(tmp_path, [each | {cell: None} for each in rows])
    assert report(["--output", str(tmp_path), "--price", "1"]) == 0
    assert json.loads((tmp_path / "report/report.json").read_text())["totals"]["rows"] == 3


def test_a_part_whose_seconds_are_not_a_number_has_a_report(tmp_path: Path) -> None:
    write(tmp_path, [row(0) | {"wall_s": float("nan")}, row(1)])
    assert report(["--output", str(tmp_path)]) == 0


@pytest.mark.parametrize("path", ["../private.mp4", "media/../../private.mp4", "{here}", None])
def test_a_part_that_names_a_file_outside_of_the_prefix_shows_nothing_of_it(
    tmp_path: Path, path: str | None
) -> None:
    private = tmp_path / "private.mp4"
    mp4.write(np.full((3, 16, 16, 3), 90, np.uint8), 8, {}, private)
    path = None if path is None else path.replace("{here}", str(private))
    out = tmp_path / "out"
    rows = [row(0) | {"video": {"bytes": None, "path": path}}, row(1) | {"video": None}]
    write(out, rows, stored=False)
    assert report(["--output", str(out)]) == 0
    page = (out / "report/index.html").read_text()
    assert "media not readable" in page
    assert base64.b64encode(private.read_bytes()).decode() not in page


@pytest.mark.parametrize("name", ["out[1]", "c[", "[/d]", "a*b?", ":fire:"])
def test_a_prefix_with_signs_of_markup_and_patterns_in_its_name(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / name, [row(0)])
    assert report(["--output", str(tmp_path / name)]) == 0
    assert f"{name}/report/index.html" in capsys.readouterr().out.replace("\n", "")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """24 clips of one cache budget, 16 of another, and a control, in parts of 5 rows."""
    rows = []
    for budget, count in ((0.34, 24), (0.26, 16)):
        cache = CacheIdentity("planned", json.dumps({"budget": budget}), "h")
        for number in range(count):
            request = dataclasses.replace(SAMPLE, prompt=f"clip {number}", cache=cache)
            rows.append(make_row(request, Provenance("r"), SampleOutcome("ok")))
    rows.append(make_row(control_for(request), Provenance("r"), SampleOutcome("ok")))
    write(tmp_path, *[rows[n : n + 5] for n in range(0, len(rows), 5)])
    return tmp_path


def test_clips_of_two_settings_are_said_and_told_apart(
    mixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = settings_text(dataclasses.replace(SAMPLE, cache=CacheIdentity("planned", BUDGET, "h")))
    found = committed(Storage(str(mixed)))
    assert sorted(found.settings.values()) == [16, 24]
    assert found.settings[first] == 24
    text = io.StringIO()
    say_settings(Console(file=text, width=1000), found.settings, first)
    assert "holds clips of other settings: 16 of demo planned budget=0.26" in text.getvalue()
    assert report(["--output", str(mixed)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "They are: 24 of demo planned budget=0.34" in out
    numbers = json.loads((mixed / "report/report.json").read_text())
    assert [each["clips"] for each in numbers["settings"]] == [24, 16]
    assert "| mixed settings |" in (mixed / "README.md").read_text()
    assert "2 different settings" in (mixed / "report/index.html").read_text()
    index = pq.read_table(mixed / "metadata.parquet")
    assert Counter(index["settings"].to_pylist())[first] == 24
    assert len(index) == 40
    assert index["sample_id"].to_pylist() == sorted(index["sample_id"].to_pylist())


def test_clips_of_one_settings_say_nothing(tmp_path: Path) -> None:
    write(tmp_path, [row(0), row(0, control=True), row(1)])
    found = committed(Storage(str(tmp_path)))
    assert found.settings == {settings_text(SAMPLE): 2}
    text = io.StringIO()
    say_settings(Console(file=text), found.settings, settings_text(SAMPLE))
    assert text.getvalue() == ""
    assert report(["--output", str(tmp_path)]) == 0
    assert "mixed settings" not in (tmp_path / "README.md").read_text()


def test_what_a_row_cannot_set_is_its_settings() -> None:
    same = dataclasses.replace(SAMPLE, prompt="x", seed=7, width=32, num_inference_steps=9)
    assert settings_text(same) == settings_text(SAMPLE)
    for change in (
        {"model_revision": "s"},
        {"sampler": "S/5"},
        {"cache": CacheIdentity("planned", "{}", "i")},
        {"adapters": ("a@1",)},
        {"dtype": "float16"},
        {"decoding": "tiled"},
        {"quantisation": "int8"},
    ):
        assert settings_text(dataclasses.replace(SAMPLE, **change)) != settings_text(SAMPLE)


def test_a_report_counts_clips_that_are_gone_without_reading_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for number in range(4):
        made = row(number) | {"media_bytes": 5}
        path = tmp_path / made["video"]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
        rows.append(made)
    write(tmp_path, rows)
    assert report(["--output", str(tmp_path)]) == 0
    assert "--verify" not in capsys.readouterr().out
    (tmp_path / rows[1]["video"]["path"]).unlink()
    (tmp_path / rows[2]["video"]["path"]).write_bytes(b"123")
    assert report(["--output", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "2 files of ok rows are not stored as the row says: missing, or of another size" in out
    assert "--verify" in out
