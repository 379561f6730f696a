"""The command that a report prints for a run gives the settings that the run had."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pipeline.config.run_command import run_command
from pipeline.config.run_config import load_config

BASE = ["--prompts", "my prompts.csv", "--output", "out/a"]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--cache.quality", "high"],
        ["--cache.budget", "0.34", "--no-cache.repair"],
        ["--cache.policy", "paper", "--cache.correct"],
        ["--cache.policy", "none", "--no-report", "--scorers", "none"],
        ["--columns", "a,b", "--save", "latents,trajectory", "--sampling.sigmas", "1.0,0.5"],
        ["--model-path", "some/folder", "--sampling.negative-prompt", 'it\'s, say, "fog"'],
        ["--keep", "a = 'x, y'", "--control-fraction", "0.25", "--gpu-price-per-hour", "2.5"],
        ["--recipe", "distilled-4step", "--samples-per-prompt", "3"],
    ],
)
def test_the_command_gives_the_settings_of_the_run(flags: list[str]) -> None:
    config = load_config([*BASE, *flags])
    words = shlex.split(run_command(config.to_dict(), "out/a"))
    assert words[:2] == ["python", "jobs/generate.py"]
    assert load_config(words[2:]) == config


def test_a_moved_prefix_and_flags_of_one_execution() -> None:
    config = load_config([*BASE, "--verify", "--retry-failed"])
    assert run_command(config.to_dict(), "/moved to") == (
        "python jobs/generate.py --prompts 'my prompts.csv' --output '/moved to'"
    )


def test_settings_of_a_file_become_flags(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("prompts: p.txt\noutput: o\nsampling: {width: 32}\n")
    config = load_config(["--config", str(tmp_path / "c.yaml")])
    assert run_command(config.to_dict(), "o").endswith(
        "--prompts p.txt --output o --sampling.width 32"
    )


def test_settings_that_flags_cannot_say_give_no_command() -> None:
    stored = load_config(BASE).to_dict()
    assert run_command({}, "o") == ""
    assert run_command(stored | {"of_another_version": 1}, "o") == ""
    assert run_command(stored | {"save": ["a,b"]}, "o") == ""
