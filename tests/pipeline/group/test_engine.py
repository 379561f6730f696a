"""A model over several ranks makes the clips that one process makes."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.benchmarks.sampling import load_bench
from pipeline.caching import to_spec
from pipeline.diffusers_engine import load_engine
from pipeline.engine import Clip, EngineDiedError
from pipeline.errors import UserError
from pipeline.group.engine import GroupEngine, LoadRank, load_group
from pipeline.group.errors import GroupError
from pipeline.models.resolve import resolve_model
from pipeline.request import SampleRequest
from sencache import SenCacheConfig, SensitivityProfile
from tests.group_models import DisagreeingRank

PROFILE = Path("pipeline/models/demo/profile.json")


@pytest.fixture(scope="module")
def profile() -> str:
    return PROFILE.read_text()


@pytest.fixture(scope="module")
def requests(profile: str) -> dict[str, list[SampleRequest]]:
    """Two clips per policy."""
    template = dataclasses.replace(load_bench("demo", "", "cpu").template, num_inference_steps=8)
    known = SensitivityProfile.from_json(profile)
    policies = {
        "none": SenCacheConfig(policy="none"),
        "paper": SenCacheConfig(epsilon=0.6, strict_epsilon=0.3),
        "planned": SenCacheConfig(policy="planned", budget=0.5),
    }
    captions = ("a red circle moving left quickly", "a blue square moving up slowly")
    return {
        name: [
            dataclasses.replace(
                template,
                prompt=caption,
                seed=seed,
                cache=to_spec(config, known if config.may_reuse else None),
            )
            for seed, caption in enumerate(captions)
        ]
        for name, config in policies.items()
    }


@pytest.fixture(scope="module")
def group(profile: str) -> Iterator[GroupEngine]:
    engine = load_group(LoadRank(resolve_model("demo"), "cpu", profile_json=profile), 2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def alone(profile: str) -> Any:
    return load_engine(resolve_model("demo"), device="cpu", profile_json=profile)


def decisions(clips: Sequence[Clip]) -> list[str]:
    return [clip.cache["decisions"] for clip in clips]


@pytest.mark.parametrize("policy", ["none", "paper", "planned"])
def test_two_ranks_make_the_clips_of_one(
    policy: str, group: GroupEngine, alone: Any, requests: dict[str, list[SampleRequest]]
) -> None:
    wanted = alone.generate(requests[policy])
    made = group.generate(requests[policy])
    assert decisions(made) == decisions(wanted)
    if policy != "none":
        assert any("R" in each for each in decisions(made))
    for one, other in zip(made, wanted, strict=True):
        off = np.abs(one.frames.astype(int) - other.frames.astype(int))
        assert off.max() <= 1  # of 255: rounding to bytes
    assert group.group_size == 2
    assert group.device_name == alone.device_name


def test_a_request_for_another_model_leaves_the_group_alive(
    group: GroupEngine, requests: dict[str, list[SampleRequest]]
) -> None:
    foreign = dataclasses.replace(requests["none"][0], model="other")
    with pytest.raises(GroupError, match="this engine holds demo"):
        group.generate([foreign])
    assert group.generate(requests["none"][:1])


def test_a_rank_of_another_opinion_changes_nothing_and_is_counted(
    profile: str, alone: Any, requests: dict[str, list[SampleRequest]]
) -> None:
    load = DisagreeingRank(resolve_model("demo"), "cpu", profile_json=profile)
    engine = load_group(load, 2)
    try:
        made = engine.generate(requests["paper"])
        disagreed, decided = engine._group.ask("agreement")
    finally:
        engine.close()
    assert decisions(made) == decisions(alone.generate(requests["paper"]))
    assert disagreed == decided > 0


def test_a_lost_rank_is_a_dead_engine(
    profile: str, requests: dict[str, list[SampleRequest]]
) -> None:
    engine = load_group(LoadRank(resolve_model("demo"), "cpu", profile_json=profile), 2)
    os.kill(engine._group.processes[1], signal.SIGKILL)
    with pytest.raises(EngineDiedError, match="rank 1 was killed by SIGKILL"):
        engine.generate(requests["none"])


def test_a_group_that_cannot_load_says_why_in_one_line() -> None:
    load = LoadRank(resolve_model("demo"), "cpu", dtype="no such type")
    with pytest.raises(UserError, match="dtype 'no such type' is not one of") as caught:
        load_group(load, 2)
    assert "\n" not in str(caught.value)


def test_heads_that_do_not_divide_are_refused_with_the_numbers() -> None:
    with pytest.raises(UserError, match="degree 4 does not divide the 6 attention heads"):
        load_group(LoadRank(resolve_model("demo"), "cpu"), 4)


def test_tokens_that_do_not_divide_are_refused_and_the_group_goes_on(
    group: GroupEngine, requests: dict[str, list[SampleRequest]]
) -> None:
    odd = dataclasses.replace(requests["none"][0], width=48, height=48, num_frames=1)
    with pytest.raises(GroupError, match="48x48x1 has 9 tokens, which 2 ranks"):
        group.generate([odd])
    assert group.generate(requests["none"][:1])
