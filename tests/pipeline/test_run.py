import gc
import io
import json
import weakref
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.errors import StorageError
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


def test_a_run_holds_on_to_nothing_that_was_garbage_before_it(tmp_path: Path) -> None:
    """A handle that is never collected would keep the devices of its actor."""

    class Handle:
        def __init__(self) -> None:
            self.me = self

    gone = weakref.ref(Handle())
    (tmp_path / "p.txt").write_text("a\n")
    settings = {"prompts": str(tmp_path / "p.txt"), "output": str(tmp_path / "out")}
    config = RunConfig.model_validate(settings | {"cache": {"policy": "none"}, "dry_run": True})
    run(config, console=Console(file=io.StringIO()))
    assert gone() is None
    assert gc.get_freeze_count() == 0
