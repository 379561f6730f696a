"""What the threat note of the README promises, as far as a test can hold it."""

from __future__ import annotations

import ast
import dataclasses
import functools
import io
import json
import logging
import traceback
from collections.abc import Callable
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


NEVER_ON = ("trust_remote_code", "allow_pickle", "shell")
"""Flags with which a call runs what it reads."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A call in a source: in which module and line, of what, and with which flags."""

    module: str
    line: int
    name: str
    flags: dict[str, str]

    @property
    def runs_what_it_reads(self) -> bool:
        loader = self.flags.get("Loader", "")
        return (
            (self.name in FORBIDDEN and (self.module, self.name) not in OWN_PROCESSES)
            or any(self.flags.get(flag, "False") != "False" for flag in NEVER_ON)
            or (self.name == "torch.load" and self.flags.get("weights_only") != "True")
            or (self.name == "yaml.load" and ("Loader" not in loader or "UnsafeLoader" in loader))
        )


def calls(module: str, source: str) -> list[Call]:
    return [
        Call(
            module,
            node.lineno,
            ast.unparse(node.func),
            {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg},
        )
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
    ]


@functools.cache
def every_call() -> list[Call]:
    """Every call in the product."""
    return [
        call
        for path in SOURCES
        for call in calls(path.relative_to(ROOT).as_posix(), path.read_text())
    ]


def test_nothing_that_is_read_is_run() -> None:
    assert [call for call in every_call() if call.runs_what_it_reads] == []


@pytest.mark.parametrize(
    ("source", "runs"),
    [
        ("pickle.loads(data)", True),
        ("Model.from_pretrained(name, trust_remote_code=True)", True),
        ("numpy.load(path, allow_pickle=True)", True),
        ("subprocess.run(words, shell=True)", True),
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=True)", False),
        ("yaml.load(text)", True),
        ("yaml.load(text, Loader=yaml.UnsafeLoader)", True),
        ("yaml.load(text, Loader=UniqueKeyLoader)", False),
        ("json.loads(text)", False),
    ],
)
def test_a_call_that_runs_what_it_reads_is_found(source: str, runs: bool) -> None:
    (call,) = calls("pipeline/x.py", source)
    assert call.runs_what_it_reads == runs


@pytest.mark.slow
def test_models_are_loaded_from_safetensors_only() -> None:
    loads = [call for call in every_call() if call.name.endswith(".from_pretrained")]
    assert loads
    assert [call for call in loads if call.flags.get("use_safetensors") != "True"] == []


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
