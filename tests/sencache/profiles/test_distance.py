"""Where a run is far from the calibration, which is said once."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from sencache import ProfileWarning, SensitivityProfile
from tests.sencache.support.toys import make_profile, unipc

MEASURED = make_profile(
    num_inference_steps=50, guidance_scale=5.0, width=64, height=64, num_frames=17
)


def told(profile: SensitivityProfile, **run: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        profile.check(**run)
    assert all(each.category is ProfileWarning for each in caught)
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"guided": False}, "guidance but the run has no guidance"),
        ({"num_inference_steps": 24}, "num_inference_steps 50 but the run has 24"),
        ({"num_inference_steps": 101}, "num_inference_steps 50 but the run has 101"),
        ({"size": (128, 128, 21)}, "clips of 64x64x17 but the run has 128x128x21"),
        ({"size": (32, 16, 17)}, "clips of 64x64x17"),
        ({"adapters": ("style", "motion")}, "no adapters but the run has style, motion"),
    ],
)
def test_a_run_far_away_is_told(run: dict[str, Any], said: str) -> None:
    (text,) = told(MEASURED, **run)
    assert said in text
    assert "lose" in text


@pytest.mark.parametrize(
    "run",
    [
        {"guided": True},
        {"num_inference_steps": 25},
        {"num_inference_steps": 100},
        {"size": (128, 128, 17)},
        {"size": (64, 64, 17), "adapters": ()},
    ],
)
def test_a_run_nearby_is_not(run: dict[str, Any]) -> None:
    assert told(MEASURED, **run) == []


def test_a_size_that_was_not_recorded_is_not_compared() -> None:
    assert told(make_profile(height=None), size=(4096, 4096, 1)) == []


def test_an_unguided_profile_is_far_from_guided_runs() -> None:
    (text,) = told(make_profile(guidance_scale=1.0), guided=True)
    assert "no guidance but the run has guidance" in text


def test_all_differences_are_told_in_one_line() -> None:
    (text,) = told(
        MEASURED, scheduler=unipc(), dtype=torch.bfloat16, guided=False, adapters=["style"]
    )
    for part in ("sampler", "dtype", "guidance", "style"):
        assert part in text
    assert "\n" not in text
