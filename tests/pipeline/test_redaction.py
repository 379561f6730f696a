"""Credentials and terminal codes: what the door hides, and that every way out passes it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.schema import Provenance, SampleOutcome, make_row, rejected_row
from pipeline.errors import UserError, message_of
from pipeline.models.resolve import resolve_model
from pipeline.monitoring.console import say
from pipeline.monitoring.summary import say_input
from pipeline.redaction import printable, redact, shown
from pipeline.report.card import card_text
from pipeline.report.page import render
from pipeline.report.pricing.prices import Prices
from pipeline.report.text import print_report
from pipeline.requests.reasons import InputCounts
from pipeline.storage.faults import one_line
from tests.pipeline.report.made import SAMPLE, measure, row, write
from tests.property_examples import examples

CANARY = "C4naryC4naryC4nary"


def forms(secret: str) -> list[str]:
    """Texts in which engines, stores and libraries have been seen to show a secret."""
    return [
        f"http://user:{secret}@127.0.0.1:9/a.png",
        f"s3://AKIA:{secret}@bucket/x",
        f"ftp://{quote(secret, safe='')}@host/x",
        f"https://host/a?X-Amz-Signature={secret}&part=1",
        f"https://host/a?part=1&amp;X-Amz-Security-Token={secret}",
        f"https://account.blob.core.windows.net/c/a.png?sv=2024&sig={secret}",
        f"https://host/r?to=https%3A%2F%2Fb%2Fa%3FX-Goog-Signature%3D{secret}%26x",
        f"https://host/a#access_token={secret}",
        f"aws_secret_access_key = {secret}",
        f'{{"password": "{secret}"}}',
        f"Authorization: Bearer {secret}",
        f"x-amz-security-token: {secret}",
        f"HF_TOKEN={secret}",
    ]


SECRETS = st.text("abcXYZ0189+/=_-", min_size=8, max_size=24).map(lambda end: CANARY + end)
TEXTS = st.builds(
    lambda before, form, secret, after: (f"{before} {forms(secret)[form]} {after}", secret),
    st.text(max_size=10),
    st.integers(0, len(forms("")) - 1),
    SECRETS,
    st.text(max_size=10),
)


@pytest.mark.slow
@settings(max_examples=examples(300))
@given(TEXTS)
def test_a_secret_is_hidden_in_every_form(case: tuple[str, str]) -> None:
    text, secret = case
    assert CANARY not in redact(text)
    assert secret not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8080/a@b.png not found",
        "s3://bucket/clips/key=1/part-0.parquet",
        "guidance_scale=4.0, max_new_tokens=512, seed=7",
        "a token of the prompt: 226 of them",
        "https://host/p.csv?page=2&size=10",
        "CUDA error: device-side assert triggered at kernel.cu:93",
        "me@example.com wrote: secrets of the sea",
        "C:/data@2024/x.mp4",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert shown(text) == text


def test_the_environments_secrets_are_hidden_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfi"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("MY_TOKEN_PATH", "/home/me/token-file")
    assert redact(f"bad signature of {secret} ({quote(secret, safe='')})") == (
        "bad signature of *** (***)"
    )
    assert redact("cannot read /home/me/token-file") == "cannot read /home/me/token-file"


@given(st.text())
def test_printable_text_holds_no_control_character(text: str) -> None:
    out = printable(text)
    assert not [char for char in out if ord(char) < 32 and char not in "\t\n"]
    assert not [char for char in out if 127 <= ord(char) < 160]
    out.encode()


HOSTILE = f"\x1b[2J\x1b]0;owned\x07 {' '.join(forms(CANARY))} [red]x[/] [/d] :fire: \u202e"


def test_no_way_out_shows_a_secret_or_a_terminal_code(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    error = RuntimeError(HOSTILE)
    failed = make_row(SAMPLE, Provenance("r"), SampleOutcome("failed", HOSTILE, HOSTILE))
    rejected = rejected_row("0" * 20, "caption", HOSTILE, "demo", "r", HOSTILE)
    # Rows of an older version, or of someone else.
    old = row(5, status="failed") | {
        "error_type": HOSTILE,
        "error_message": HOSTILE,
        "source_key": HOSTILE,
    }
    other = row(6) | {"model": HOSTILE, "device_name": HOSTILE, "run_id": HOSTILE}
    storage = write(tmp_path / "out[1]", [old, other])
    report = measure(storage, Prices())
    print_report(report, console)
    say(console, HOSTILE)
    config = RunConfig(prompts=HOSTILE.replace("\n", ""), output=str(tmp_path / "c[/d]"))
    say_input(console, config, resolve_model("demo"), InputCounts(), {})
    Manifest("r", config.to_dict(), {"x": HOSTILE}, error=HOSTILE).write(storage)
    assert isinstance(console.file, io.StringIO)
    ways = {
        "failed row": json.dumps({k: failed[k] for k in ("error_type", "error_message")}),
        "rejected row": json.dumps({k: rejected[k] for k in ("source_key", "error_message")}),
        "message of a row": message_of(error),
        "message of a job": str(UserError(HOSTILE)),
        "message of a store": one_line(error),
        "console": console.file.getvalue(),
        "report.json": report.model_dump_json(),
        "page": render(report, {}),
        "card": card_text(report),
        "manifest": storage.read_bytes("runs/r.json").decode(),
    }
    for name, text in ways.items():
        assert CANARY not in text, name
        if name != "page":  # where a control character is nothing
            assert "\x1b[2J" not in text, name
            assert "\x1b]0;" not in text, name
    assert "[red]x[/] [/d] :fire:" in ways["console"]  # neither markup nor emoji


PROGRAM = """
import logging, sys
from pipeline.redaction import guard_output
guard_output()
guard_output()
text = sys.argv[1]
logging.basicConfig(stream=sys.stdout)
logging.getLogger("ray.data").warning("a line of %s: %s", "someone else", text)
try:
    raise ValueError(text)
except ValueError:
    logging.getLogger("pipeline.x").exception("it failed")
logging.getLogger("x").warning("bad %d", text)
raise RuntimeError(text)
"""


def test_logs_and_tracebacks_of_a_guarded_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, HOSTILE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "a line of someone else" in done.stdout
    assert "ValueError" in done.stdout
    assert "RuntimeError" in done.stderr
    for text in (done.stdout, done.stderr):
        assert CANARY not in text
        assert "\x1b" not in text


def test_what_is_clean_stays_clean() -> None:
    once = shown(HOSTILE)
    assert shown(once) == once


def test_only_secrets_of_the_environment_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several texts of every row are redacted, and workers have a hundred variables."""
    read: list[str] = []

    class Environment(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            read.append(name)
            return super().__getitem__(name)

        def get(self, name: str, default: Any = None) -> Any:
            read.append(name)
            return super().get(name, default)

    names = {f"RAY_{number}": "a value of some length" for number in range(9)}
    environment = Environment(names, HF_TOKEN="hidden-in-a-variable")
    monkeypatch.setattr(os, "environ", environment)
    assert redact("") == ""
    assert read == []
    assert redact("a hidden-in-a-variable b") == "a *** b"
    assert read == ["HF_TOKEN"]
    environment["MY_SECRET"] = "set-later-than-that"
    assert redact("set-later-than-that") == "***"
