"""What is read from the command line and the YAML file, and which of them goes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config.run_config import RunConfig, load_config
from sencache.config import DEFAULT_MAX_ERROR
from tests.property_examples import examples

NEEDED = ["--prompts", "p.csv", "--output", "out"]


def load(*argv: str) -> RunConfig:
    return load_config([*NEEDED, *argv])


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
