"""A mistake in the flags of any command is one plain line, with exit code 2 and no usage."""

from __future__ import annotations

import importlib
import sys

import pytest

from pipeline.commands.command_line import COMMANDS

MISTAKES = {
    "export --output out --to wds --were good": (
        "there is no flag --were; did you mean --where?; --help lists all"
    ),
    "export --outptu out --to wds": (
        "there is no flag --outptu; did you mean --output?; --help lists all"
    ),
    "export --to wds": "--output is required",
    "export": "--output and --to are required",
    "export --output out --to wds --captions promt": (
        "--captions promt: should be one of prompt, recaption; did you mean prompt?"
    ),
    "export --output out --to wds --shard-rows many": (
        "--shard-rows should be a whole number, not 'many'"
    ),
    "export --output out --to wds good": (
        "'good' belongs to no flag; every value follows its flag: --name value"
    ),
    "export --output out --to wds --s 3": (
        "--s may be --splits, --split-by, --stratify-by or --shard-rows"
    ),
    "export --output out --to wds --with-controls=yes": (
        "--with-controls is a switch: it takes no value"
    ),
    "report --output out --gpu-price-per-hour 3": (
        "there is no flag --gpu-price-per-hour; did you mean --price?; --help lists all"
    ),
    "report --output out --price": "--price needs a value",
    "report --output out --watch soon": "--watch should be a number, not 'soon'",
    "report --output out --market spto": (
        "--market spto: should be one of on-demand, spot; did you mean spot?"
    ),
    "generate --price 3": (
        "there is no flag --price; did you mean --gpu-price-per-hour?; --help-all lists all"
    ),
    "generate --steps 3": (
        "there is no flag --steps; did you mean --sampling.num-inference-steps?; "
        "--help-all lists all"
    ),
    "calibrate --outpt x": "there is no flag --outpt; did you mean --output?; --help lists all",
    "calibrate --output x --clps 3": (
        "there is no flag --clps; did you mean --clips?; --help lists all"
    ),
    "calibrate --output x --modle demo": (
        "there is no flag --modle; did you mean --model?; --help lists all"
    ),
    "calibrate --output x --clips few": "--clips should be a whole number, not 'few'",
    "calibrate --output x --clips-from": "--clips-from needs a value",
    "calibrate": "--output is required",
    "score --kep x": "there is no flag --kep; did you mean --keep?; --help lists all",
    "score": "--output is required",
    "caption --captoner x": (
        "there is no flag --captoner; did you mean --captioner?; --help lists all"
    ),
    "rewrite --prompts x": "--to and --rewrite are required",
    "rewrite": "--prompts, --to and --rewrite are required",
    "benchmark dataset --jsn x": "there is no flag --jsn; did you mean --json?; --help lists all",
    "benchmark": "COMMAND is required",
}
"""A command line, and what is said of it."""


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *given = line.split()
    monkeypatch.setattr(sys, "argv", [f"jobs/{command}.py", *given])
    main = importlib.import_module(COMMANDS[command].module).main
    try:
        code = main(given)
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    assert (code, said.err, said.out) == (2, f"error: {MISTAKES[line]}\n", "")


def test_every_command_is_tried() -> None:
    assert {line.split()[0] for line in MISTAKES} == set(COMMANDS)


def test_an_unknown_benchmark_is_named_beside_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module("jobs.benchmark").main(["datasets"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: COMMAND datasets: should be one of ablation, ")
    assert line.endswith("; did you mean dataset?")


def test_shortened_flags_and_values_that_look_like_flags_are_taken() -> None:
    from pipeline.commands.parser import CommandParser

    parser = CommandParser()
    parser.add_argument("--where")
    parser.add_argument("rest", nargs="*")
    assert parser.parse_args(["--whe", "a"]).where == "a"
    assert parser.parse_args(["--where=--no"]).where == "--no"
    assert parser.parse_args(["--", "--no"]).rest == ["--no"]
