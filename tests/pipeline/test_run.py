import gc
import io
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console

from pipeline.cluster import connection
from pipeline.cluster.ray_data_plan import check_own_machine
from pipeline.config.run_config import RunConfig
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import rejected_row, to_table
from pipeline.errors import StorageError, UserError
from pipeline.models.resolve import model_of, resolve_model
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.run import run
from pipeline.storage.storage import Storage


def test_a_run_whose_last_rows_cannot_be_written_does_not_say_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Storage.put_bytes

    def full(self: Storage, key: str, data: bytes) -> None:
        if key.startswith("data/"):
            raise StorageError("no space left")
        put(self, key, data)

    monkeypatch.setattr(Storage, "put_bytes", full)
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": ""}\n')  # one rejected row: no cluster is needed to write it
    output = tmp_path / "out"
    config = RunConfig.model_validate(
        {"prompts": str(prompts), "output": str(output), "cache": {"policy": "none"}}
    )
    with pytest.raises(StorageError):
        run(config, console=Console(file=io.StringIO()))
    (manifest,) = [json.loads(path.read_text()) for path in (output / "runs").glob("*.json")]
    assert manifest["state"] == "error"
    assert "StorageError" in manifest["error"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "cuda"}, "^--device cuda: this machine has no GPU"),
        ({"replicas": 50}, "^--replicas 50 do not fit: this machine has room for"),
        ({"engine": {"offload": "model"}}, "^--engine.offload model needs a GPU"),
    ],
)
def test_what_this_machine_cannot_run_is_refused_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.setattr(connection, "own_gpus", lambda: 0)
    monkeypatch.setattr(connection, "own_cores", lambda: 8)
    (tmp_path / "p.txt").write_text("a\n")
    output = tmp_path / "out"
    given = {"prompts": str(tmp_path / "p.txt"), "output": str(output)}
    config = RunConfig.model_validate(given | settings)
    with pytest.raises(UserError, match=said):
        run(config, console=Console(file=io.StringIO()))
    assert not list(output.glob("runs/*"))
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")  # only the cluster knows what it has
    check_own_machine(config, model_of(config))


@pytest.mark.slow
def test_a_run_holds_on_to_nothing_that_was_garbage_before_it(tmp_path: Path) -> None:
    """A handle that is never collected would keep the devices of its actor."""

    class Handle:
        def __init__(self) -> None:
            self.me = self

    (tmp_path / "p.txt").write_text("a\n")
    settings = {"prompts": str(tmp_path / "p.txt"), "output": str(tmp_path / "out")}
    config = RunConfig.model_validate(settings | {"cache": {"policy": "none"}, "dry_run": True})
    for freeze in (gc.unfreeze, gc.freeze):
        freeze()
        before = gc.get_freeze_count()
        gone = weakref.ref(Handle())
        run(config, console=Console(file=io.StringIO()))
        assert gone() is None
        assert (gc.get_freeze_count() > 0) == (before > 0)  # what the caller froze stays frozen


def said_at_start(tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> str:
    prompts = tmp_path / "rows.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"prompts": str(prompts), "output": str(tmp_path / "out"), "dry_run": True}
    text = io.StringIO()
    run(RunConfig.model_validate(given | settings), console=Console(file=text, width=400))
    return text.getvalue()


def test_the_first_clips_of_a_run_are_not_counted_as_planned(tmp_path: Path) -> None:
    rows = [{"prompt": f"ball {number}"} for number in range(12)]
    text = said_at_start(tmp_path, rows, cache={"profile": "own"})
    assert "12 clips to make" in text
    assert "the run makes 4 clips without a cache first" in text
    assert "the same number for each of 8 clips\n" in text


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.jsonl", '{"prompt": "a", "negative_prompt": ""}\n{"prompt": "b"}\n', True),
        ("p.csv", 'prompt,negative_prompt\na,""\nb,\n', False),
    ],
)
def test_rows_that_replace_the_model_s_negative_prompt_by_none_are_said(
    tmp_path: Path, name: str, text: str, said: bool
) -> None:
    (tmp_path / name).write_text(text)
    given = {"prompts": str(tmp_path / name), "output": str(tmp_path / "out"), "dry_run": True}
    given |= {"model": "wan2.1-t2v-1.3b"}
    out = io.StringIO()
    run(RunConfig.model_validate(given), console=Console(file=out, width=400))
    line = (
        'Without a negative prompt: 1 row with "", which replaces the default. null, or no such '
        "column, takes the default\n"
    )
    assert (line in out.getvalue()) == said


def test_rows_with_their_own_number_of_steps_are_told_their_plan(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b", "num_inference_steps": 20}]
    rows += [{"prompt": "c", "num_inference_steps": 6}]
    lines = said_at_start(tmp_path, rows).splitlines()
    plans = [line for line in lines if line.startswith("planned: ")]
    theirs = "; their rows set num_inference_steps, and the same profile plans them"
    assert plans == [
        "planned: exactly 6 of 6 steps computed (NFE) for 1 clip: a run of so few steps "
        "reuses none" + theirs,
        "planned: the fewest of 20 steps with a predicted error of at most 0.01 of the latents, "
        "the same number for 1 clip" + theirs,
        "planned: the fewest of 50 steps with a predicted error of at most 0.01 of the latents, "
        "the same number for 1 clip",
    ]
    (far,) = [line for line in lines if line.startswith("  Plans of 20 steps: ")]
    assert "measured with num_inference_steps 50 but the run has 20; plans may lose 1 dB" in far


@pytest.mark.slow
def test_a_dry_run_says_when_the_nfe_of_planned_clips_will_be_known(tmp_path: Path) -> None:
    unknown = "NFE of planned clips: said with the first of them"
    assert unknown in said_at_start(tmp_path, [{"prompt": "a"}])
    for cache in ({"budget": 0.3}, {"policy": "none"}, {"policy": "paper"}):
        assert unknown not in said_at_start(tmp_path, [{"prompt": "a"}], cache=cache)


@pytest.mark.slow
def test_clips_that_are_made_again_for_late_controls_are_named(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    config = RunConfig.model_validate(
        {"prompts": "p", "output": str(tmp_path / "out"), "control_fraction": 1.0}
    )
    model = resolve_model("demo")
    storage = Storage(config.output)
    request = build_request(rows[0], request_defaults(config, model, storage), "rows.jsonl:1")
    done = rejected_row(request.sample_id, "a", "", "demo", "r", "") | {"status": "ok"}
    parts = PartWriter(storage, "r", part_rows=100, part_seconds=100)
    parts.add(to_table([done]))
    parts.flush()
    alone = said_at_start(tmp_path, rows[:1], control_fraction=1.0)
    assert "1 clip to make, 1 uncached control among them" in alone
    assert "NFE of planned clips" not in alone
    text = said_at_start(tmp_path, rows, control_fraction=1.0)
    assert "3 clips to make, 2 uncached controls among them" in text
    assert "Made again to be compared: the clips of 1 control, because" in text
    fresh = said_at_start(tmp_path, rows[1:], control_fraction=1.0)
    assert "1 uncached control among them" in fresh
    assert "Made again" not in fresh
