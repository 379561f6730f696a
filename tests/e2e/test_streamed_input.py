"""An input that is read while clips are made gives what one gives that is read before."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.cluster import ray_data_plan
from pipeline.config.run_config import RunConfig
from pipeline.monitoring.result import RunResult
from pipeline.requests import intake, packing
from pipeline.run import run
from pipeline.streaming import head
from tests.e2e.engines import obedient
from tests.e2e.outputs import rows_of

WRITTEN = ("status", "caption", "source_key", "control_of", "error_message", "seed")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all that bounds the memory of a run so small that 60 rows are a large input."""
    for module, name, value in (
        (intake, "CHUNK_ROWS", 8),
        (head, "HEAD_ROWS", 8),
        (packing, "BLOCK_ROWS", 3),
        (packing, "MOST_FIRST", 2),
        (packing, "SAMPLES_PER_FIRST", 2),
        (ray_data_plan, "UNITS_AHEAD", 6),
        (ray_data_plan, "UNITS_KEPT", 2),
    ):
        monkeypatch.setattr(module, name, value)


def made(prompts: Path, output: Path, **settings: Any) -> tuple[RunResult, str]:
    text = io.StringIO()
    given = {"prompts": str(prompts), "output": str(output), "replicas": 1, "batch_rows": 4}
    config = RunConfig.model_validate(given | settings)
    result = run(config, factory=obedient(), console=Console(file=text, width=300))
    return result, text.getvalue()


@pytest.mark.slow
def test_it_makes_the_rows_of_an_input_that_was_read_first(
    local_ray: str, tmp_path: Path, small: None
) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"clip {n}"} for n in range(50)]
    rows[3] = rows[40] = {"prompt": ""}  # rejected, in the head and after it
    rows[30] = rows[2]  # a duplicate of a row of the head
    rows += [{"prompt": "late", "note": "kept"}, {"prompt": "raise"}]
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "control_fraction": 0.3,
        "cache": {"budget": 0.5},
        "sampling": {"guidance_scale": 4, "num_inference_steps": 12},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "HEAD_ROWS", 1000)
        whole, said = made(prompts, tmp_path / "whole", **settings)
    assert "The first" not in said
    part, said = made(prompts, tmp_path / "streamed", limit=20, **settings)
    assert "The first" in said
    assert part.read == 20
    rest, said = made(prompts, tmp_path / "streamed", **settings)
    assert " rows of about " in said
    assert f"All rows are read: {len(rows)} rows" in said
    assert said.count("kept in the column source: note") == 1
    assert f"{rest.totals.made}/{rest.totals.made} clips" in said
    assert (rest.read, rest.rejected) == (whole.read, whole.rejected) == (len(rows), 2)
    assert rest.done_before + rest.totals.made == whole.totals.made
    by_id = {
        name: {row["sample_id"]: tuple(row[key] for key in WRITTEN) for row in found}
        for name, found in ((n, rows_of(tmp_path / n)) for n in ("whole", "streamed"))
    }
    assert by_id["streamed"] == by_id["whole"]
    statuses = Counter(row["status"] for row in rows_of(tmp_path / "streamed"))
    assert statuses == {"ok": whole.totals.ok, "failed": whole.totals.failed, "rejected": 2}
    manifests = sorted((tmp_path / "streamed" / "runs").glob("*Z-??????.json"))
    last = json.loads(manifests[-1].read_text())
    assert last["input"]["read"] == len(rows)
    assert last["input"]["duplicates"] == 1
    again, said = made(prompts, tmp_path / "streamed", **settings)
    assert "Everything is done already" in said
    assert again.done_before == whole.totals.made


@pytest.mark.slow
def test_it_measures_a_profile_on_clips_of_its_first_rows(
    local_ray: str, tmp_path: Path, small: None
) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("".join(f"clip {n}\n" for n in range(40)))
    settings: dict[str, Any] = {
        "model": "wan2.1-t2v-1.3b",  # no profile is shipped for it
        "cache": {"quality": "balanced", "measure_clips": 3},
        "sampling": {"num_inference_steps": 20},
    }
    result, said = made(prompts, tmp_path / "out", **settings)
    assert "The first" in said
    rows = rows_of(tmp_path / "out")
    assert {row["caption"] for row in rows} == {f"clip {n}" for n in range(40)}
    assert len(rows) == len({row["sample_id"] for row in rows}) == result.totals.ok == 40
    uncached = {row["caption"] for row in rows if " none " in row["settings"]}
    assert len(uncached) == 3
    assert {int(caption.split()[1]) for caption in uncached} <= set(range(16))
    (profile,) = (tmp_path / "out" / "profiles").glob("*.json")
    assert {row["cache"]["profile"] for row in rows} <= {profile.stem, ""}
    again, said = made(prompts, tmp_path / "out", **settings)
    assert "Everything is done already" in said
    assert again.done_before == 40
