"""What the threat note of the README promises, as far as a test can hold it."""

from __future__ import annotations

import ast
import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.manifest import Manifest
from pipeline.errors import UserError
from pipeline.models.resolve import resolve_model
from pipeline.monitoring.summary import say_input
from pipeline.requests.reasons import InputCounts
from pipeline.storage.storage import Storage
from tests.pipeline.storage.faulty_s3 import FaultyS3, use_keys

ROOT = Path(__file__).parents[1]
SOURCES = [path for top in ("pipeline", "sencache", "jobs") for path in (ROOT / top).rglob("*.py")]
FORBIDDEN = {
    "pickle.load",
    "pickle.loads",
    "dill.load",
    "dill.loads",
    "marshal.loads",
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "load_dataset",
    "torch.hub.load",
}
"""Calls that run what a file or a text says."""

OWN_PROCESSES = {("pipeline/ranks/shared_memory.py", "pickle.loads")}
"""Calls on what a process of the same run sent over a pair of sockets that nobody else has, as
`multiprocessing` does with every message."""

KEY_ID, SECRET = "AKIACANARYCANARY0000", "canary/Sw0rdfish+secret"
TOKEN = "canary-session-token"


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def flags(call: ast.Call) -> dict[str, str]:
    return {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path: Path) -> None:
    for name, call in calls(path):
        where = f"{path}:{call.lineno}"
        given = flags(call)
        if (str(path.relative_to(ROOT)), name) not in OWN_PROCESSES:
            assert name not in FORBIDDEN, where
        assert given.get("trust_remote_code", "False") == "False", where
        assert given.get("allow_pickle", "False") == "False", where
        assert given.get("shell", "False") == "False", where
        if name == "torch.load":
            assert given.get("weights_only") == "True", where
        if name == "yaml.load":
            assert "Loader" in given["Loader"], where
            assert "UnsafeLoader" not in given["Loader"], where


@pytest.mark.slow
def test_models_are_loaded_from_safetensors_only() -> None:
    loads = [
        (path, call)
        for path in SOURCES
        for name, call in calls(path)
        if name.endswith(".from_pretrained")
    ]
    assert loads
    for path, call in loads:
        assert flags(call).get("use_safetensors") == "True", f"{path}:{call.lineno}"


@pytest.mark.parametrize(
    ("status", "act"),
    [
        (403, lambda storage: storage.put_bytes("a", b"1")),
        (403, lambda storage: storage.read_bytes("a")),
        (403, lambda storage: storage.list()),
        (500, lambda storage: storage.check_writable()),
        (0, lambda storage: storage.exists("a")),
    ],
)
def test_credentials_are_in_no_message_log_or_traceback(
    s3: FaultyS3,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
    act: Callable[[Storage], object],
) -> None:
    use_keys(monkeypatch, KEY_ID, SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setattr("pipeline.storage.storage.PROBE_RETRY_S", 0.3)
    s3.faults.extend([status] * 200)
    storage = Storage("s3://clips/run", retry_s=0.3)
    with caplog.at_level(logging.WARNING), pytest.raises(UserError) as caught:
        act(storage)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(storage)
    for canary in (KEY_ID, SECRET, TOKEN):
        assert canary not in shown


def test_credentials_inside_urls_are_in_no_manifest_message_or_summary(tmp_path: Path) -> None:
    url = f"https://me:{SECRET.replace('/', '')}@host/p.csv?X-Amz-Signature={TOKEN}&part=1"
    config = RunConfig(**{"prompts": url, "output": str(tmp_path)})
    storage = Storage(str(tmp_path))
    manifest = Manifest("20260101T000000Z-00000a", config.to_dict(), {"nested": [url, {"a": url}]})
    manifest.write(storage)
    text = io.StringIO()
    say_input(Console(file=text, width=400), config, resolve_model("demo"), InputCounts(), {})
    shown = storage.read_bytes("runs/20260101T000000Z-00000a.json").decode()
    assert json.loads(shown)["config"]["prompts"].startswith("https://host/p.csv?")
    for each in (shown, text.getvalue(), str(UserError(f"{url}: not found"))):
        assert "host/p.csv" in each
        assert SECRET.replace("/", "") not in each
        assert TOKEN not in each
