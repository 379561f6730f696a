"""The help: what people set on two screens, every setting on request, and a flag for each."""

from __future__ import annotations

import re

import pytest

from pipeline.config.help_text import flag, walk
from pipeline.config.run_config import SHOWN, RunConfig, load_config
from pipeline.errors import UserError

NEEDED = ["--prompts", "p.csv", "--output", "out"]


def load(*argv: str) -> RunConfig:
    return load_config([*NEEDED, *argv])


OFF = {"--no-contact-sheet", "--no-cache.repair", "--no-engine.vae-slicing", "--no-report"}
"""Flags of settings that are on unless they are switched off."""


def help_of(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[str, set[str]]:
    """The help text and the flags in it."""
    with pytest.raises(SystemExit) as end:
        load_config(argv)
    assert end.value.code == 0
    text = capsys.readouterr().out
    return text, set(re.findall(r"^  (--\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_shows_what_people_set_on_two_screens(
    capsys: pytest.CaptureFixture[str], word: str
) -> None:
    text, shown = help_of(capsys, "--limt", word)
    lines = text.splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 100
    assert len(shown) <= 46
    assert len(shown) == len(SHOWN)  # each of them is a setting
    assert {"--prompts", "--cache.quality", "--parallel.degree", "--dry-run"} <= shown
    for part in (
        "(required)",
        "--help-all",
        "none|paper",
        "N|auto",
        "exit code",
        "[--config FILE]",
    ):
        assert part in text


def test_help_all_shows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    text, shown = help_of(capsys, "--help-all")
    switched_on = {word.replace("--no-", "--") for word in OFF}
    named = {flag(path) for path, _ in walk(RunConfig)} - switched_on
    assert shown == named | {*OFF, "--config"}
    assert max(map(len, text.splitlines())) <= 100
    assert "JSON string" not in text
    assert all(field.description for _, field in walk(RunConfig))


@pytest.mark.parametrize("path", [path for path, _ in walk(RunConfig)], ids=".".join)
def test_every_setting_has_its_flag(path: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        load(flag(path), "1", "--no-such-flag")
    assert "--no-such-flag" in str(caught.value)  # and not the flag of the setting
