"""The one line for every mistake on the command line and in the YAML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.run_config import load_config
from pipeline.errors import UserError

NEEDED = ["--prompts", "p.csv", "--output", "out"]


def refusal(argv: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        load_config(argv)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("levels", ["0.5,0.9", "0.9,0.9", "1.5,1", "1,0", "1,-0.5"])
def test_noise_levels_that_do_not_fall_are_refused(levels: str) -> None:
    text = refusal([*NEEDED, "--sampling.sigmas", levels])
    assert text.startswith("--sampling.sigmas should fall from step to step, from 1 (pure noise)")


def test_a_word_among_noise_levels_is_refused() -> None:
    assert "--sampling.sigmas should be a number" in refusal(
        [*NEEDED, "--sampling.sigmas", "1,high"]
    )


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "--prompts is required"),
        (["--prompts", "p"], "--output is required"),
        (["--prompts", "", "--output", "o"], "--prompts should not be empty, not ''"),
        (
            [*NEEDED, "--limt", "3"],
            "there is no flag --limt; did you mean --limit?; --help-all lists all",
        ),
        (
            [*NEEDED, "--max_attempts=3"],
            "there is no flag --max_attempts; did you mean --max-attempts?; --help-all lists all",
        ),
        (
            [*NEEDED, "--cache", "none"],
            "there is no flag --cache; did you mean --cache.quality?; --help-all lists all",
        ),
        (
            [*NEEDED, "--epsilon", "1"],
            "there is no flag --epsilon; did you mean --cache.epsilon?; --help-all lists all",
        ),
        (
            [*NEEDED, "--sampling.steps", "4"],
            "there is no flag --sampling.steps; did you mean --sampling.num-inference-steps?; "
            "--help-all lists all",
        ),
        ([*NEEDED, "--zzzzzz"], "there is no flag --zzzzzz; --help-all lists all"),
        ([*NEEDED, "--limit"], "--limit needs a value"),
        ([*NEEDED, "--limit", "--dry-run"], "--limit needs a value"),
        (
            [*NEEDED, "extra"],
            "'extra' belongs to no flag; every value follows its flag: --name value",
        ),
        ([*NEEDED, "-n"], "'-n' belongs to no flag; every value follows its flag: --name value"),
        ([*NEEDED, "--dry-run=yes"], "--dry-run is a switch: it takes no value"),
        ([*NEEDED, "--limit", "x"], "--limit should be a whole number, not 'x'"),
        ([*NEEDED, "--limit", "1.5"], "--limit should be a whole number, not '1.5'"),
        ([*NEEDED, "--limit", "0"], "--limit should be greater than or equal to 1, not '0'"),
        (
            [*NEEDED, "--replicas", "many"],
            "--replicas should be a whole number of at least 1, or \"auto\", not 'many'",
        ),
        (
            [*NEEDED, "--batch-rows", "0"],
            "--batch-rows should be a whole number of at least 1, or \"auto\", not '0'",
        ),
        (
            [*NEEDED, "--cache.policy", "teacache"],
            "--cache.policy should be 'none', 'paper' or 'planned', not 'teacache'",
        ),
        (
            [*NEEDED, "--cache.epsilon", "nan"],
            "--cache.epsilon should be a finite number, not 'nan'",
        ),
        (
            [*NEEDED, "--cache.policy", "official"],
            "--cache.policy cannot be official here: that needs the authors' own sensitivity "
            "files, which only the library reads (sencache.OfficialProfile); use paper or planned",
        ),
        (
            [*NEEDED, "--cache.quality", "best"],
            "--cache.quality should be 'lossless', 'high', 'balanced' or 'fast', not 'best'",
        ),
        (
            [*NEEDED, "--cache.quality", "high", "--cache.budget", "0.4"],
            "--cache.quality and --cache.budget cannot both be given: a quality is a policy and "
            "its error",
        ),
        (
            [*NEEDED, "--cache.budget", "0.4", "--cache.epsilon", "0.1"],
            "--cache.budget and --cache.epsilon cannot both be given: a run has an exact budget "
            "or a threshold",
        ),
        (
            [*NEEDED, "--cache.policy", "paper", "--cache.budget", "0.4"],
            "--cache.policy and --cache.budget do not go together: only policy planned reads "
            "budget",
        ),
        (
            [*NEEDED, "--cache.budget", "1.5"],
            "--cache.budget should be less than or equal to 1, not '1.5'",
        ),
        ([*NEEDED, "--cache.epsilon", "a"], "--cache.epsilon should be a number, not 'a'"),
        (
            [*NEEDED, "--max-failed-fraction", "10"],
            "--max-failed-fraction should be less than or equal to 1, not '10'",
        ),
        (
            [*NEEDED, "--device", "tpu"],
            "--device should be 'auto', 'cpu' or 'cuda', not 'tpu'",
        ),
        (
            [*NEEDED, "--parallel.degree", "-1"],
            "--parallel.degree should be greater than or equal to 1, not '-1'",
        ),
        ([*NEEDED, "--config="], "--config needs the name of a YAML file"),
        ([*NEEDED, "--config", "/no/such.yaml"], "cannot read /no/such.yaml: not found"),
    ],
)
def test_mistakes_on_the_command_line(argv: list[str], line: str) -> None:
    assert refusal(argv) == line


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("model: demo\n", "--prompts is required; set --prompts, or prompts: in FILE"),
        ("polcy: x\n", "FILE: there is no setting polcy; did you mean cache.policy?"),
        ("max-attempts: 3\n", "FILE: there is no setting max-attempts; did you mean max_attempts?"),
        (
            "cache: {max_resue: 3}\n",
            "FILE: there is no setting cache.max_resue; did you mean cache.max_reuse?",
        ),
        (
            "parallel: {zzzz: 3}\n",
            "FILE: there is no setting parallel.zzzz; there are degree, backend",
        ),
        ("limit: many\n", "FILE: limit should be a whole number, not 'many'"),
        ("limit: true\n", "FILE: limit should not be true or false, not True"),
        ("limit: [1]\n", "FILE: limit should be a whole number, not [1]"),
        ("model: 3\n", "FILE: model should be text, not 3"),
        ("dry_run: maybe\n", "FILE: dry_run should be true or false, not 'maybe'"),
        (
            "cache: none\n",
            "FILE: cache should hold settings below it (quality, policy, budget, max_error, order, "
            "repair, gate, gate_ratio, epsilon, max_reuse, strict_epsilon, strict_fraction, "
            "correct, uncond_verdict, profile, measure_clips), not 'none'",
        ),
        (
            "cache: {quality: fast, policy: planned}\n",
            "FILE: cache.quality and cache.policy cannot both be given: a quality is a policy and",
        ),
        (
            "sampling: {width: -1}\n",
            "FILE: sampling.width should be greater than or equal to 1, not -1",
        ),
        ("a: b\nmodel: [x\n", "FILE, line 3: not valid YAML: expected ',' or ']', but got"),
        ("model: a\nlimit: 1\nmodel: b\n", "FILE, line 3: not valid YAML: model is given twice"),
        ("a\tb: {\n", "FILE, line "),
        ("- model\n", "FILE: should hold settings as `name: value`, one a line"),
        ("just words\n", "FILE: should hold settings as `name: value`, one a line"),
        ("\x00", "FILE: not a YAML text file: "),
        (
            "!!python/object:os.system {}\n",
            "FILE, line 1: not valid YAML: could not determine a cons",
        ),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, content: str, line: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    text = refusal(["--config", str(path)]).replace(str(path), "FILE")
    assert text.startswith(line)


def test_a_mistake_in_the_file_is_not_blamed_on_a_flag(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("cache: {epsilon: x}\nlimit: y\n")
    text = refusal([*NEEDED, "--config", str(path), "--limit", "3", "--cache.max-reuse", "1"])
    assert text == f"{path}: cache.epsilon should be a number, not 'x'"
    path.write_text("cache: none\n")
    text = refusal([*NEEDED, "--config", str(path), "--cache.max-reuse", "1"])
    assert text.startswith(f"{path}: cache should hold settings below it")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"model: \xff\n")
    assert refusal(["--config", str(path)]).startswith(f"{path}: not a YAML text file: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("? [a, b]\n: c\n", "line 1: not valid YAML: a name is a list or a mapping"),
        ("cache:\n  ? {a: b}\n  : c\n", "line 2: not valid YAML: a name is a list or a mapping"),
        ("1: c\n", "1 is not the name of a setting"),
        ("null: c\n", "None is not the name of a setting"),
        ("limit: 2026-99-99\n", "not a YAML text file: month must be in 1..12"),
        ("limit: !!int ''\n", "not a YAML text file"),
        ("limit: !!python/object:os.system x\n", "not valid YAML"),
        ("limit: " + "[" * 5000 + "\n", "nested too deeply"),
        ("<<: 3\n", "not valid YAML"),
    ],
)
def test_odd_yaml_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config([f"--config={file}"])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
