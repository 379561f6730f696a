"""The command line and the YAML file: what is read, and the one line for every mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config.help_text import flag, walk
from pipeline.config.run_config import SHOWN, RunConfig, load_config
from pipeline.errors import UserError
from sencache.config import DEFAULT_MAX_ERROR
from tests.property_examples import examples

NEEDED = ["--prompts", "p.csv", "--output", "out"]


def load(*argv: str) -> RunConfig:
    return load_config([*NEEDED, *argv])


def refusal(argv: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        load_config(argv)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_defaults() -> None:
    config = load()
    assert config == RunConfig(prompts="p.csv", output="out")
    assert (config.model, config.replicas, config.max_attempts) == ("demo", "auto", 3)
    assert (config.cache.policy, config.cache.max_error) == ("planned", DEFAULT_MAX_ERROR)
    assert set(config.sampling.model_dump().values()) == {None}
    assert config.contact_sheet
    assert not config.dry_run


def test_flags_of_every_kind() -> None:
    config = load(
        *["--samples-per-prompt", "4", "--replicas=2", "--batch-rows", "auto"],
        *["--max-failed-fraction", "0.5", "--dry-run", "--no-contact-sheet", "--dtype", "bfloat16"],
        *["--cache.policy", "none", "--cache.max-reuse=5", "--parallel.degree", "2"],
        *["--sampling.negative-prompt", "-blurry, {bad}", "--sampling.seed", "0"],
    )
    assert (config.samples_per_prompt, config.replicas, config.batch_rows) == (4, 2, "auto")
    assert (config.max_failed_fraction, config.dry_run, config.contact_sheet) == (0.5, True, False)
    assert (config.cache.policy, config.cache.max_reuse, config.parallel.degree) == ("none", 5, 2)
    assert config.sampling.negative_prompt == "-blurry, {bad}"
    assert config.sampling.seed == 0


def test_noise_levels_are_listed_on_the_command_line_and_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("sampling: {sigmas: [1.0, 0.5]}")
    assert load("--config", str(path)).sampling.sigmas == [1.0, 0.5]
    assert load("--sampling.sigmas", "1,0.9,0.5").sampling.sigmas == [1.0, 0.9, 0.5]
    again = RunConfig.model_validate(load("--sampling.sigmas=1,0.9").to_dict())
    assert again.sampling.sigmas == [1.0, 0.9]


@pytest.mark.parametrize("levels", ["0.5,0.9", "0.9,0.9", "1.5,1", "1,0", "1,-0.5"])
def test_noise_levels_that_do_not_fall_are_refused(levels: str) -> None:
    text = refusal([*NEEDED, "--sampling.sigmas", levels])
    assert text.startswith("--sampling.sigmas should fall from step to step, from 1 (pure noise)")


def test_a_word_among_noise_levels_is_refused() -> None:
    assert "--sampling.sigmas should be a number" in refusal(
        [*NEEDED, "--sampling.sigmas", "1,high"]
    )


def test_flags_override_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "prompts: p.csv\noutput: out\nmodel: other\nlimit: 5\n"
        "cache: {epsilon: 1e-3, max_reuse: 7}\nsampling:\n  # width: 64\nparallel:\n"
    )
    config = load_config(
        ["--config", str(path), "--model", "demo", "--cache.max-reuse", "2", "--limit", "null"]
    )
    assert (config.model, config.limit, config.output) == ("demo", None, "out")
    assert (config.cache.epsilon, config.cache.max_reuse, config.cache.policy) == (1e-3, 2, "paper")
    assert config.parallel.degree == 1


def test_the_environment_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "DEVICE", "LIMIT", "CACHE", "CONFIG"):
        monkeypatch.setenv(name, "cuda")
    assert load() == RunConfig(prompts="p.csv", output="out")


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("# nothing yet\n")
    assert load("--config", str(tmp_path / "run.yaml")) == load()


@given(
    limit=st.none() | st.integers(1, 10**9),
    epsilon=st.floats(0, 10),
    negative=st.none() | st.text(st.characters(codec="utf-8"), max_size=20),
    replicas=st.just("auto") | st.integers(1, 99),
)
@settings(max_examples=examples(50), deadline=None)
def test_yaml_round_trip(limit: Any, epsilon: float, negative: Any, replicas: Any) -> None:
    config = RunConfig.model_validate(
        {
            "prompts": "p.csv",
            "output": "s3://b/ö",
            "limit": limit,
            "replicas": replicas,
            "cache": {"epsilon": epsilon},
            "sampling": {"negative_prompt": negative},
        }
    )
    assert RunConfig.model_validate(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config
    assert RunConfig.model_validate(config.to_dict()) == config


def test_stored_settings_are_a_config_file(tmp_path: Path) -> None:
    config = load("--limit", "3", "--cache.policy", "none", "--sampling.fps", "8")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert load_config(["--config", str(tmp_path / "run.yaml")]) == config


@pytest.mark.parametrize(
    ("above", "policy", "reads"),
    [
        ([], "planned", {"max_error": 0.01}),
        (["--cache.policy", "none"], "none", {}),
        (["--cache.quality", "fast"], "planned", {"max_error": 0.02}),
        (["--cache.budget", "0.4"], "planned", {"budget": 0.4}),
        (["--cache.max-error", "0.1"], "planned", {"max_error": 0.1}),
        (["--cache.epsilon", "0.2"], "paper", {"epsilon": 0.2}),
        (["--cache.order", "0"], "planned", {"max_error": 0.01}),
    ],
)
def test_flags_go_before_the_quality_of_a_file(
    tmp_path: Path, above: list[str], policy: str, reads: dict[str, float]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("cache: {quality: balanced}\n")
    cache = load("--config", str(path), *above).cache
    assert cache.policy == policy
    unset = dict.fromkeys(("budget", "max_error", "epsilon"))
    assert {name: getattr(cache, name) for name in unset} == {**unset, **reads}


@pytest.mark.parametrize(
    "cache",
    [
        {"quality": "lossless"},
        {"quality": "fast"},
        {"budget": 0.4, "order": 2, "repair": False},
        {"policy": "planned"},
        {"policy": "none", "epsilon": 0.3},
        {"epsilon": 0.2, "correct": True, "uncond_verdict": "own"},
        {},
    ],
)
def test_every_way_to_cache_reads_back_from_its_own_file(
    tmp_path: Path, cache: dict[str, Any]
) -> None:
    config = RunConfig.model_validate({"prompts": "p.csv", "output": "out", "cache": cache})
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert load_config(["--config", str(tmp_path / "run.yaml")]) == config
    changed = load_config(["--config", str(tmp_path / "run.yaml"), "--cache.budget", "0.5"])
    assert (changed.cache.policy, changed.cache.budget) == ("planned", 0.5)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().limit = 3  # type: ignore[misc]


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
