from __future__ import annotations

import dataclasses
import math
from typing import Any

from pipeline.attempts.call_deadline import FACTOR, FLOOR_S, CallDeadline
from pipeline.requests.sample_request import CacheIdentity, SampleRequest

CLIP = SampleRequest(
    prompt="a",
    negative_prompt="",
    model="demo",
    model_revision="1",
    sampler="x",
    num_inference_steps=50,
    guidance_scale=5.0,
    width=64,
    height=64,
    num_frames=17,
    fps=8,
    max_sequence_length=32,
    seed=0,
)
HOURS = 4 * 3600.0


def test_a_first_call_has_the_limit_of_the_run_and_later_ones_a_shorter_one() -> None:
    deadline = CallDeadline(HOURS)
    assert deadline.allowed_s([CLIP]) == HOURS
    deadline.observe([CLIP], 400.0)
    assert deadline.allowed_s([dataclasses.replace(CLIP, seed=1)]) == FACTOR * 400.0
    assert deadline.allowed_s([CLIP, CLIP]) == 2 * FACTOR * 400.0


def test_what_takes_another_time_is_learnt_for_itself() -> None:
    deadline = CallDeadline(HOURS)
    deadline.observe([CLIP], 1.0)
    assert deadline.allowed_s([CLIP]) == FLOOR_S
    changes: list[dict[str, Any]] = [
        {"width": 128},
        {"num_inference_steps": 4},
        {"cache": CacheIdentity("planned", "{}", "1")},
    ]
    for change in changes:
        assert deadline.allowed_s([dataclasses.replace(CLIP, **change)]) == HOURS


def test_nothing_exceeds_the_limit_of_the_run() -> None:
    assert math.isinf(CallDeadline(math.inf).allowed_s([CLIP]))
    short = CallDeadline(60.0)
    short.observe([CLIP], 59.0)
    assert short.allowed_s([CLIP]) == 60.0
