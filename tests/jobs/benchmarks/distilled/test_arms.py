"""The arms as runs would make them, with a recipe whose file is not read."""

from __future__ import annotations

import pytest

from jobs.benchmarks.distilled.arms import UNCACHED, distilled_arms
from pipeline.errors import UserError


def test_arms_share_captions_and_seeds_and_differ_in_what_they_are_named_for() -> None:
    arms = {arm.name: arm for arm in distilled_arms(2, 3)}
    shown = {
        name: [(request.prompt, request.seed) for request in arm.requests]
        for name, arm in arms.items()
    }
    first = shown[UNCACHED]
    assert len(set(first)) == 6
    assert len({prompt for prompt, _ in first[:3]}) == 1  # clips of a caption are neighbours
    assert all(pairs == first for pairs in shown.values())
    steps = {name: arm.requests[0].num_inference_steps for name, arm in arms.items()}
    assert steps == {
        **{UNCACHED: 50, "cached 17": 50, "cached 13": 50, "cached 8": 50},
        **{"17 steps": 17, "8 steps": 8, "4 steps": 4, "distilled 4": 4},
    }
    branches = {name: arm.branches for name, arm in arms.items()}
    assert {name for name, count in branches.items() if count == 1} == {"distilled 4"}
    assert len({arm.requests[0].sample_id for arm in arms.values()}) == len(arms)


@pytest.mark.parametrize(("captions", "seeds"), [(0, 2), (65, 2), (1, 1)])
def test_too_few_captions_or_seeds_are_refused(captions: int, seeds: int) -> None:
    with pytest.raises(UserError):
        distilled_arms(captions, seeds)
