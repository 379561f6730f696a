"""Whole runs on a private Ray cluster: the embedded model, and an engine made to misbehave."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.data._internal.block_batching import iter_batches
from ray.data._internal.block_batching.util import resolve_block_refs
from rich.console import Console

from jobs.generate import main
from pipeline.cluster.ray_compat import RAY_DATA_THREADS
from pipeline.config.run_config import RunConfig
from pipeline.dataset import mp4
from pipeline.dataset.parts import PartWriter
from pipeline.engine.protocol import EngineFactory
from pipeline.errors import UserError
from pipeline.export.index import INDEX_KEY
from pipeline.monitoring.result import RunResult
from pipeline.run import run
from pipeline.storage.storage import Storage
from pipeline.tensors.tensor_file import read_tensors
from tests.e2e.engines import broken, obedient
from tests.e2e.outputs import rows_of, write_prompts

PROMPTS = (
    "a red circle moving left on a black background",
    "In a still frame, a stop sign",
    "A tranquil tableau of alley, 8k — “golden hour” 🌆",
)


def quiet_run(closed: str = "", **settings: Any) -> tuple[RunResult, str]:
    """A run, and what it said; its engine touches the file `closed` when it is closed."""
    text = io.StringIO()
    config = RunConfig(**{"replicas": 1, **settings})  # a process less to start for each one
    result = run(config, factory=obedient(closed=closed), console=Console(file=text, width=200))
    return result, text.getvalue()


@dataclasses.dataclass(frozen=True)
class Made:
    """A finished run of the embedded model, and the flags that made it."""

    flags: list[str]
    output: Path


@pytest.fixture(scope="module")
def made(local_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    flags = ["--prompts", write_prompts(folder / "p.txt", PROMPTS), "--batch-rows", "2"]
    flags += ["--sampling.num-inference-steps", "6", "--cache.budget", "0.5", "--replicas", "1"]
    flags += ["--sampling.width", "32", "--sampling.height", "32", "--sampling.num-frames", "5"]
    flags += ["--save", "latents,text_embeds", "--device", "cpu"]
    assert main([*flags, "--output", str(folder / "out")]) == 0
    return Made(flags, folder / "out")


def frames_of(output: Path) -> dict[str, mp4.Frames]:
    return {
        row["sample_id"]: mp4.decode((output / row["video"]["path"]).read_bytes())
        for row in rows_of(output)
    }


@pytest.mark.slow
def test_the_embedded_model_makes_a_dataset_and_a_second_run_makes_nothing(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    output = made.output
    rows = rows_of(output)
    assert Counter(row["status"] for row in rows) == {"ok": 3}
    assert {row["caption"] for row in rows} == set(PROMPTS)
    for row in rows:
        data = (output / row["video"]["path"]).read_bytes()
        frames = mp4.decode(data)
        assert frames.shape == (row["num_frames"], row["height"], row["width"], 3)
        assert len(data) == row["media_bytes"]
        assert mp4.read_row(data)["sample_id"] == row["sample_id"]
        cache = row["cache"]
        assert cache["nfe"] + cache["reused"] == len(cache["decisions"]) == 6
        assert cache["decisions"].count("C") == cache["nfe"] == 3
        assert row["tensors"]["saved"] == "latents,text_embeds"
        assert read_tensors(Storage(str(output)), row)
    assert (output / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    (manifest,) = [json.loads(path.read_text()) for path in (output / "runs").glob("*.json")]
    assert (manifest["state"], manifest["result"]["ok"]) == ("done", 3)
    before = sorted(path.stat().st_mtime_ns for path in output.rglob("*.*"))
    assert main([*made.flags, "--output", str(output)]) == 0
    assert "Everything is done already" in capsys.readouterr().out
    assert sorted(path.stat().st_mtime_ns for path in output.rglob("*.*")) == before
    (output / INDEX_KEY).unlink()  # as where a signal came before it was written
    assert main([*made.flags, "--output", str(output)]) == 0
    assert pq.read_metadata(output / INDEX_KEY).num_rows == 3
    assert "Everything is done already" in capsys.readouterr().out


@pytest.mark.variant
@pytest.mark.slow
def test_texts_that_are_encoded_apart_make_the_same_dataset(made: Made, tmp_path: Path) -> None:
    output = tmp_path / "separate"
    assert main([*made.flags, "--output", str(output), "--stages.text", "separate"]) == 0
    inline, separate = frames_of(made.output), frames_of(output)
    assert inline.keys() == separate.keys()
    assert len(inline) == len(PROMPTS)
    for sample_id, frames in inline.items():
        assert np.array_equal(frames, separate[sample_id])
    saved = [
        {row["sample_id"]: row["tensors"]["sha256"] for row in rows_of(each)}
        for each in (made.output, output)
    ]
    assert saved[0] == saved[1]


@pytest.mark.slow
@pytest.mark.parametrize("cfg", [2, pytest.param(1, marks=pytest.mark.variant)])
def test_a_model_that_is_split_over_ranks_makes_the_same_dataset(
    made: Made, tmp_path: Path, cfg: int
) -> None:
    output = tmp_path / "split"
    layout = ["--parallel.degree", "2", "--parallel.cfg", str(cfg)]
    assert main([*made.flags, "--output", str(output), *layout]) == 0
    whole, split = ({row["sample_id"]: row for row in rows_of(o)} for o in (made.output, output))
    assert split.keys() == whole.keys()
    assert len(whole) == len(PROMPTS)
    pixels, others = frames_of(made.output), frames_of(output)
    for sample_id, other in split.items():
        one = whole[sample_id]
        assert (one["status"], other["status"]) == ("ok", "ok")
        assert (one["group_size"], other["group_size"]) == (1, 2)
        assert other["parallel"]["cfg"] == cfg
        assert other["cache"]["decisions"] == one["cache"]["decisions"]
        assert other["gpu_s"] == pytest.approx(2 * other["wall_s"])
        apart = others[sample_id].astype(int) - pixels[sample_id].astype(int)
        assert np.abs(apart).mean() < 1.0  # of 255; the codec may turn on a last bit


@pytest.mark.slow
def test_a_sample_that_kills_its_process_ends_as_one_failed_row(
    local_ray: str, tmp_path: Path
) -> None:
    prompts = [*(f"clip {n}" for n in range(6)), "die", *(f"clip {n}" for n in range(6, 12))]
    report, _ = quiet_run(
        prompts=write_prompts(tmp_path / "p.txt", prompts),
        output=str(tmp_path / "out"),
        cache={"policy": "none"},
        batch_rows=4,
        max_attempts=2,
    )
    rows = rows_of(tmp_path / "out")
    assert sorted(row["caption"] for row in rows) == sorted(prompts)
    assert Counter(row["status"] for row in rows) == {"ok": 12, "failed": 1}
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert (failed["caption"], failed["error_type"], failed["attempts"]) == ("die", "WorkerDied", 2)
    assert "death of its process" in failed["error_message"]
    assert report.failed_fraction == pytest.approx(1 / 13)
    # Its batch went down with it once: no neighbour was begun more than twice.
    assert max(row["attempts"] for row in rows if row["status"] == "ok") <= 2


@pytest.mark.variant
@pytest.mark.slow
def test_the_only_node_is_not_blamed_for_samples_that_kill_their_process(
    local_ray: str, tmp_path: Path
) -> None:
    """Nor taken out of service, which would leave nothing to go on with."""
    names = ["a", "b", "die 0", "c", "die 1", "die 2"]
    report, text = quiet_run(
        prompts=write_prompts(tmp_path / "p.txt", names),
        output=str(tmp_path / "out"),
        cache={"policy": "none"},
        batch_rows=2,
        batches_per_task=3,  # what was stored is claimed again with each death in the same task
        max_attempts=2,
    )
    rows = rows_of(tmp_path / "out")
    assert sorted(row["caption"] for row in rows if row["status"] == "ok") == [*"abc"]
    assert Counter(row["status"] for row in rows) == {"ok": 3, "failed": 3}
    assert report.totals.failed == 3
    assert "killed whatever ran" not in text


@pytest.mark.slow
def test_no_thread_of_ray_data_outlives_a_run_that_stops_midway(
    local_ray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that asks for a block while Ray is shut down ends the process without a word."""

    def fetched(block_ref_iter: Iterator[Any], stats: Any) -> Iterator[Any]:
        for block in resolve_block_refs(block_ref_iter, stats):
            time.sleep(0.5)
            yield block

    def full(_: PartWriter, table: pa.Table) -> None:
        if table.num_rows:
            raise UserError("the store is full")

    monkeypatch.setattr(iter_batches, "resolve_block_refs", fetched)
    monkeypatch.setattr(PartWriter, "add", full)
    before = set(threading.enumerate())
    with pytest.raises(UserError, match="the store is full"):
        quiet_run(
            prompts=write_prompts(tmp_path / "p.txt", [f"clip {n}" for n in range(8)]),
            output=str(tmp_path / "out"),
            cache={"policy": "none"},
            replicas=1,
            batch_rows=1,
        )
    left = {thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()}
    assert not {name for name in left if name.startswith(RAY_DATA_THREADS)}


@pytest.mark.slow
def test_bad_rows_become_rows_and_nothing_else_is_lost(local_ray: str, tmp_path: Path) -> None:
    source = tmp_path / "p.jsonl"
    lines = [
        {"prompt": "fine"},
        {"prompt": ""},
        {"prompt": 7},
        {"prompt": "huge", "width": 10**9},
        {"prompt": "odd", "num_frames": 16},
        {"prompt": "fine"},
        {"prompt": "raise"},
    ]
    source.write_text("\n".join(json.dumps(line) for line in lines) + "\nnot json\n")
    settings: dict[str, Any] = {
        "prompts": str(source),
        "output": str(tmp_path / "out"),
        "cache": {"policy": "none"},
        "max_attempts": 2,
    }
    report, text = quiet_run(**settings)
    rows = rows_of(tmp_path / "out")
    assert Counter(row["status"] for row in rows) == {"ok": 1, "failed": 1, "rejected": 5}
    assert "1 duplicate" in text
    messages = {row["caption"]: row["error_message"] for row in rows}
    assert "16384" in messages["huge"]
    assert "use 13 or 17" in messages["odd"]
    assert messages["raise"] == "cannot draw this"
    assert all(row["error_message"] and row["error_type"] for row in rows if row["status"] != "ok")
    assert report.failed_fraction == pytest.approx(0.5)
    again, _ = quiet_run(**settings)
    assert (again.totals.made, again.totals.rejected, len(rows_of(tmp_path / "out"))) == (0, 0, 7)
    assert again.failed_fraction == pytest.approx(0.5)
    retried, _ = quiet_run(**settings, retry_failed=True)
    assert (retried.totals.ok, retried.totals.failed) == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "factory", "message"),
    [
        ("misfit", obedient(), "the profile does not fit this model"),
        pytest.param(
            *("fine", broken, "cannot load demo: the weights are torn"), marks=pytest.mark.variant
        ),
    ],
)
def test_a_fault_of_the_settings_inside_a_worker_is_one_line_and_the_run_says_error(
    local_ray: str, tmp_path: Path, prompt: str, factory: EngineFactory, message: str
) -> None:
    config = RunConfig.model_validate(
        {
            "prompts": write_prompts(tmp_path / "p.txt", [prompt]),
            "output": str(tmp_path / "out"),
            "cache": {"policy": "none"},
            "replicas": 1,
        }
    )
    with pytest.raises(UserError) as stopped:
        run(config, factory=factory, console=Console(file=io.StringIO()))
    assert str(stopped.value) == message
    (manifest,) = [json.loads(p.read_text()) for p in (tmp_path / "out" / "runs").glob("*Z-*.json")]
    assert manifest["state"] == "error"
    assert message in manifest["error"]


@pytest.mark.slow
def test_clips_lost_after_their_rows_are_made_again_by_the_same_command(
    local_ray: str, tmp_path: Path
) -> None:
    out, closed = tmp_path / "out", tmp_path / "closed"
    settings = {
        "prompts": write_prompts(tmp_path / "p.txt", ("one", "two", "three")),
        "output": str(out),
    }
    quiet_run(closed=str(closed), **settings)
    check_that_it_appears(closed)  # an actor with nothing left to do closes its engine
    rows = {row["caption"]: row for row in rows_of(out)}
    lost, torn = (out / rows[name]["video"]["path"] for name in ("one", "two"))
    lost.unlink()
    torn.write_bytes(torn.read_bytes()[:-10])
    _, text = quiet_run(**settings, verify=True, dry_run=True)
    assert "Verified: 3 clips, 2 missing or damaged" in text
    assert "3 rows · 2 clips to make · 1 done before" in text
    assert not lost.exists()
    result, _ = quiet_run(**settings, verify=True)
    assert result.totals.clips == 2
    final = [row for row in rows_of(out) if row["status"] == "ok"]
    assert sorted(row["caption"] for row in final) == ["one", "three", "two"]
    for row in final:
        data = (out / row["video"]["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["media_sha256"]
    again, text = quiet_run(**settings, verify=True)
    assert "Verified: 3 clips, none missing or damaged." in text
    assert again.totals.made == 0
    _, text = quiet_run(**settings)
    assert "3 done before" in text


def check_that_it_appears(file: Path) -> None:
    """Wait for a file of an actor: the driver does not wait for its actors."""
    deadline = time.monotonic() + 300
    while not file.exists():
        assert time.monotonic() < deadline, f"there is no {file.name}"
        time.sleep(0.05)
