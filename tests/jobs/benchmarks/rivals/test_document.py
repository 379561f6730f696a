"""Results are stored one by one, and both pages show all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.benchmarks.rivals import document
from jobs.benchmarks.rivals.cells import cells_of, stored_cells
from jobs.benchmarks.rivals.summary import summary
from pipeline.errors import UserError

EULER, UNIPC = "FlowMatchEulerDiscreteScheduler/3.0", "UniPCMultistepScheduler/3.0"


def written(label: str, psnr: float, *samplers: str) -> dict[str, Any]:
    """A result of one clip, of plans at 21 alone."""
    conditions = {
        "gpu": "",
        "cpu": "a CPU",
        "threads": 1,
        "date": "2026-11-28T00:00:00",
        "versions": {"torch": "2", "diffusers": "0.42"},
        "command": "jobs/benchmark.py rivals --partial /home/x.jsonl --label second",
    }
    line = {"arm": "planned", "wanted": 21, "batch": 0, "setting": "", "nfe": [21.0]}
    request = {"width": 64, "height": 64, "num_frames": 17, "guidance_scale": 4.0}
    measured = {
        "model": "demo",
        "label": label,
        "split": "held-out",
        "steps": 50,
        "prompts_hash": "abc",
        "calibration_hash": "def",
        "rows": 4,
        "measures": ["jod", "psnr"],
        "request": request,
        "points": [21],
        "missing": [],
        "samplers": {
            name: [line | {"sampler": name, "psnr": [psnr], "jod": [9.95]}] for name in samplers
        },
    }
    return {"conditions": conditions, "result": measured}


def test_models_of_one_spec_are_kept_apart_and_samplers_side_by_side(tmp_path: Path) -> None:
    pages = [tmp_path / "one.md", tmp_path / "two.md"]
    for page in pages:
        page.write_text(f"before\n{document.BEGIN}\nstale text\n{document.END}\nafter\n")
    stored = tmp_path / "results"
    document.keep(written("second", 50.0, EULER, UNIPC), stored)
    document.keep(written("demo", 60.0, EULER), stored)
    document.keep(written("second", 55.0, EULER), stored)
    cells = stored_cells(stored)
    assert [(cell.label, cell.short_sampler) for cell in cells] == [
        ("demo", "euler"),
        ("second", "euler"),
        ("second", "unipc"),
    ]
    means = [next(iter(cell.result["samplers"].values()))[0]["psnr"] for cell in cells]
    assert means == [[60.0], [55.0], [50.0]]
    assert all("/home" not in path.read_text() for path in stored.iterdir())
    document.show(stored, *pages)
    for page in pages:
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "stale text" not in text
        assert "55.0" in text
        assert "60.0" in text


def test_a_result_without_clips_is_refused(tmp_path: Path) -> None:
    empty = written("second", 50.0, EULER)
    empty["result"]["samplers"][EULER] = [{"arm": "planned", "wanted": 21, "problem": "none"}]
    assert cells_of(empty) == []
    with pytest.raises(UserError, match="no clips"):
        document.keep(empty, tmp_path)


def test_the_pages_show_the_stored_results() -> None:
    cells = stored_cells()
    assert document.KEPT.name in [cell.file_name for cell in cells]
    assert sorted(cell.file_name for cell in cells) == sorted(
        path.name for path in document.RESULTS.glob("*.json")
    )
    for path, text in (
        (document.DOCUMENT, summary(cells)),
        (document.TABLES, document.tables(cells)),
    ):
        assert f"{document.BEGIN}\n{text}\n{document.END}" in path.read_text()
