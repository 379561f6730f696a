import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.config import RunConfig
from pipeline.errors import StorageError
from pipeline.run import run
from pipeline.storage import Storage


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
