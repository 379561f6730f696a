"""Every command of the pages is one that the jobs' own parsers and the Makefile take."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.run_config import load_config
from tests.docs.documents import PAGES, ROOT, commands

NEEDED = {
    "generate": ["--prompts", "p.txt", "--output", "out"],
    "calibrate": ["--prompts", "p.txt", "--output", "out"],
}
"""What a reader knows to add to a command that shows only some flags (`...`)."""

FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*(?:\.[a-z][\w-]*|\.\*)*")

TARGETS = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)


OF_OTHERS = {
    *("--help", "--help-all", "--address", "--runtime-env", "--submission-id", "--working-dir"),
    "--build-arg",
}
"""Flags that every job has, and those of Ray and Docker."""


class Parsed(BaseException):
    """A command line was read; raised instead of doing what it says."""

    def __init__(self, options: argparse.Namespace, rest: list[str]) -> None:
        super().__init__()
        self.options, self.rest = options, rest


def refuse(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Why the Makefile or a job does not take a command; "" if it does, or if it is neither's."""
    if words[0] == "make":
        assert TARGETS
        return "" if words[1] in TARGETS[1].split() else f"make has no target {words[1]}"
    at = next((n for n, word in enumerate(words) if re.fullmatch(r"jobs/\w+\.py", word)), None)
    if at is None:
        return ""
    job, given = Path(words[at]).stem, [word for word in words[at + 1 :] if word != "..."]
    if {"--help", "--help-all", "--list-models"} & set(given):
        return ""
    if "..." in words:
        given += [word for word in NEEDED.get(job, ()) if word not in given]
    try:
        if job == "generate":
            load_config(given)
            return ""
        return parsed(job, given, monkeypatch)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is told
        return f"{type(error).__name__}: {error}"


def parsed(job: str, given: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a command line to a job, which stops once its parser has read it."""
    original = argparse.ArgumentParser.parse_known_args

    def stop(self: argparse.ArgumentParser, *args: Any, **options: Any) -> Any:
        raise Parsed(*original(self, *args, **options))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
    try:
        importlib.import_module(f"jobs.{job}").main(given)
    except Parsed as found:
        if job == "calibrate":  # its other flags are those of jobs/generate.py
            load_config([*found.rest, *NEEDED["generate"]])
            return ""
        return f"unknown: {found.rest}" if found.rest else ""
    return "the job read no command line"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_taken(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    found = {}
    for words in commands(page):
        with monkeypatch.context() as patch:
            if problem := refuse(words, patch):
                found[" ".join(words)] = problem + capsys.readouterr().err[-300:]
    assert found == {}


def test_every_flag_of_a_page_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_config(["--help-all"])
    known = set(FLAG.findall(capsys.readouterr().out)) | OF_OTHERS
    parsers = [
        *ROOT.glob("jobs/**/*.py"),
        *ROOT.glob("pipeline/commands/*.py"),
        *ROOT.glob("infra/ci/*.py"),
        *ROOT.glob("tests/*/__main__.py"),
    ]
    for source in parsers:
        known.update(re.findall(r'"(--[a-z][\w.-]*)"', source.read_text()))
    known |= {flag.replace("--", "--no-", 1) for flag in known}
    for page in PAGES:
        if page != "CHANGELOG.md":  # it names what was
            named = FLAG.findall((ROOT / page).read_text())
            assert {flag for flag in named if not flag.endswith("*")} - known == set(), page


def test_the_check_finds_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refuse(["make", "lunch"], monkeypatch)
    for command in (
        "python jobs/generate.py ... --sampling.steps 3",
        "ray job submit -- python jobs/generate.py --config jobs/configs/none.yaml",
        "python jobs/report.py --output out --prize 3",
        "python jobs/benchmark.py memory --cards 3",
        "python jobs/calibrate.py --output out --lips 3",
    ):
        with monkeypatch.context() as patch:
            assert refuse(command.split(), patch), command
    assert sum(len(list(commands(page))) for page in PAGES) > 40
