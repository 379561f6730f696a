"""Damaged, mixed and hostile output prefixes, read through the jobs that people run."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jobs.report import main as report
from pipeline.dataset import mp4
from tests.pipeline.report.made import row, write

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
    assert "](javascript" not in body
    assert yaml.safe_load(front)["task_categories"] == ["text-to-video"]
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page


@pytest.mark.parametrize("path", ["../private.mp4", "media/../../private.mp4", "{here}", None])
def test_a_part_that_names_a_file_outside_of_the_prefix_shows_nothing_of_it(
    tmp_path: Path, path: str | None
) -> None:
    private = tmp_path / "private.mp4"
    mp4.encode(np.full((3, 16, 16, 3), 90, np.uint8), 8, {}, private)
    path = None if path is None else path.replace("{here}", str(private))
    out = tmp_path / "out"
    write(out, [row(0) | {"video": {"bytes": None, "path": path}}, row(1) | {"video": None}])
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
