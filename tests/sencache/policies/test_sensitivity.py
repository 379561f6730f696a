"""What the judge adds to the rule: schedules, branches, buckets, correction, warnings."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sencache import SenCacheConfig, SenCacheHandle, apply_sencache
from sencache.policies.sensitivity import fill_up
from tests.sencache.support.driving import (
    GAIN_T,
    GAIN_X,
    LOOSE,
    TAUS,
    cached,
    decisions,
    drive,
    finish,
)
from tests.sencache.support.toys import LINEAR, LinearTransformer, make_profile

THREE = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, max_reuse=9)


def with_scheduler(
    config: SenCacheConfig, taus: list[float] = TAUS, **facts: Any
) -> tuple[LinearTransformer, SenCacheHandle]:
    """A cached network whose pipeline has a scheduler but publishes nothing."""
    scheduler = SimpleNamespace(
        timesteps=1000 * torch.tensor(taus), config={"num_train_timesteps": 1000, "shift": 3.0}
    )
    pipe = SimpleNamespace(transformer=LinearTransformer(GAIN_X, GAIN_T), scheduler=scheduler)
    profile = make_profile(
        GAIN_X, GAIN_T, family="linear", sampler="SimpleNamespace", num_inference_steps=len(taus)
    )
    return pipe.transformer, apply_sencache(pipe, config, profile, family=LINEAR)


def test_a_scheduler_tells_what_a_pipeline_does_not_publish() -> None:
    told, published = with_scheduler(THREE), cached(THREE)
    drive(told[0], [0.1, 0.3], publish=False)
    drive(published[0], [0.1, 0.3])
    assert told[1].stats() == [
        sample.__class__(**(vars(sample) | {"profile": told[1].stats()[0].profile}))
        for sample in published[1].stats()
    ]


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (LOOSE, "CRRCRC"),  # the last of the schedule computes, wherever the run began
        (SenCacheConfig(epsilon=1e9, strict_fraction=0.0, max_reuse=9, final_computed=3), "CRRCCC"),
        # Six of ten steps are strict: of the six that run, the first two.
        (SenCacheConfig(epsilon=1e9, strict_epsilon=0.0, strict_fraction=0.6), "CCRRRC"),
    ],
)
def test_a_run_that_starts_within_the_schedule_is_cached_by_its_position(
    config: SenCacheConfig, wanted: str
) -> None:
    transformer, handle = with_scheduler(config)
    for step in range(4, 10):
        x, t = torch.ones(1, 2, 3, 4), torch.tensor([1000 * TAUS[step]])
        with transformer.cache_context("cond"):
            transformer(x - step, t, torch.zeros(1))
    assert decisions(handle) == [wanted]


def test_timesteps_rounded_to_the_networks_dtype_are_found_in_the_schedule() -> None:
    taus = [0.7 - 0.001 * step for step in range(10)]  # bfloat16 tells few of them apart
    top = [1.0, 0.9, 0.8]
    transformer, handle = with_scheduler(LOOSE, top + taus)
    for tau in taus:
        with transformer.cache_context("cond"):
            transformer(
                torch.ones(1, 2, 3, 4), torch.tensor([1000 * tau]).bfloat16(), torch.ones(1)
            )
    assert len(handle.stats()) == 1
    assert handle.stats()[0].decisions[-1] == "C"
    assert "R" in handle.stats()[0].decisions


def test_guidance_turned_off_under_the_same_context_is_seen() -> None:
    """CogVideoX, LTX and Mochi call without guidance what they call with it."""
    packed, handle = with_scheduler(THREE)
    apart, apart_handle = cached(THREE)
    drive(apart, [0.1, 0.3], contexts=["cond"])
    drive_unguided(packed, start=[5.0, 6.0])
    assert decisions(handle) == decisions(apart_handle) == ["CRRCRRCRRC", "CRCRCRCRCC"]


@pytest.mark.parametrize("guidance", [None, False])
def test_clips_that_began_alike_are_no_branches(guidance: bool | None) -> None:
    """Two prompts from one seed, without guidance: equal halves until the second step."""
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, max_reuse=9, guidance=guidance)
    transformer, handle = with_scheduler(config)
    drive_unguided(transformer, start=[5.0, 5.0])
    wanted = ["CRRCRRCRRC", "CRCRCRCRCC"] if guidance is False else ["CCRRCRRCRC", "CCRCRCRCRC"]
    assert decisions(handle) == wanted
    assert [sample.evaluations for sample in handle.stats()] == [
        sample.nfe - (guidance is None) for sample in handle.stats()
    ]


def drive_unguided(transformer: LinearTransformer, start: list[float]) -> None:
    """Two clips that move by 0.1 and 0.3 a step, under the context of guidance."""
    speed = torch.tensor([0.1, 0.3]).view(-1, 1, 1, 1)
    origin = torch.tensor(start).view(-1, 1, 1, 1)
    for step, tau in enumerate(TAUS):
        with transformer.cache_context("cond_uncond"):
            transformer(
                torch.ones(2, 2, 3, 4) * (origin - speed * step),
                torch.full((2,), 1000 * tau),
                torch.zeros(2),
            )


def test_branches_of_their_own_verdict_cost_one_synchronisation_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, uncond_verdict="own")
    transformer, _ = cached(config)
    syncs: list[int] = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: (syncs.append(1), original(self))[1])
    drive(transformer, [0.1, 0.3])
    assert len(syncs) == len(TAUS) - 2


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 10)), min_size=1, max_size=9),
    st.sets(st.integers(1, 12), max_size=4).map(sorted),
)
def test_filling_up_adds_the_rows_of_highest_score_to_the_next_size(
    rows: list[tuple[bool, float]], buckets: list[int]
) -> None:
    computed, score = [ran for ran, _ in rows], [value for _, value in rows]
    filled = fill_up(computed, score, buckets) or computed
    wanted, got = sum(computed), sum(filled)
    assert all(now for before, now in zip(computed, filled, strict=True) if before)
    if wanted == 0 or not [size for size in buckets if size >= wanted]:
        assert got == wanted
    else:
        assert got == min(next(size for size in buckets if size >= wanted), len(rows))
    added = [s for s, was, now in zip(score, computed, filled, strict=True) if now and not was]
    left = [s for s, now in zip(score, filled, strict=True) if not now]
    assert not added or not left or min(added) >= max(left)


def test_buckets_fill_the_networks_batches_and_refresh_what_they_add() -> None:
    speeds = [0.05, 0.1, 0.2, 0.3, 0.4]
    plain, plain_handle = cached(THREE)
    drive(plain, speeds)
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, max_reuse=9, row_buckets=(1, 2, 4, 8))
    transformer, handle = cached(config)
    drive(transformer, speeds)
    assert not set(plain.calls) <= {1, 2, 4, 5}
    assert set(transformer.calls) <= {1, 2, 4, 5}
    for before, after in zip(plain_handle.stats(), handle.stats(), strict=True):
        assert after.max_score <= 1.4
        assert after.evaluations == 2 * after.nfe
        assert before.decisions[0] == after.decisions[0] == "C"
    # A row that was added is as fresh as any other: its next score counts from there.
    assert sum(s.nfe for s in handle.stats()) >= sum(s.nfe for s in plain_handle.stats())


@pytest.mark.parametrize("wrong", [0.05, 0.3, 4.0, 30.0])
def test_correction_gives_the_intended_error_with_a_wrong_profile(wrong: float) -> None:
    """The network is linear, so that S of the right profile is the true error."""
    config = SenCacheConfig(epsilon=1.4, strict_epsilon=0.0, strict_fraction=0.2, correct=True)
    profile = make_profile(wrong * GAIN_X, wrong * GAIN_T, family="linear")
    transformer, handle = cached(config, profile)
    right, right_handle = cached(config)
    drive(transformer, [0.1, 0.3, 0.02])
    drive(right, [0.1, 0.3, 0.02])
    assert decisions(handle) == decisions(right_handle)
    for sample in handle.stats():
        for refresh in sample.refreshes[1:]:
            assert refresh.predicted == pytest.approx(refresh.actual, rel=1e-3)


def test_without_correction_a_wrong_profile_decides_wrongly() -> None:
    config = SenCacheConfig(epsilon=1.4, strict_epsilon=0.0, strict_fraction=0.2)
    profile = make_profile(4 * GAIN_X, 4 * GAIN_T, family="linear")
    transformer, handle = cached(config, profile)
    right, right_handle = cached(config)
    drive(transformer, [0.1, 0.3, 0.02])
    drive(right, [0.1, 0.3, 0.02])
    assert decisions(handle) != decisions(right_handle)


def test_rows_that_are_not_finite_compute_and_are_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transformer, handle = cached(LOOSE)
    with caplog.at_level(logging.WARNING, logger="sencache"):
        for text in (0.0, 1.0):
            outputs = drive(transformer, [float("nan"), 0.1], text=text)
            finish(transformer)
    assert decisions(handle) == ["C" * 10, "CRRCRRCRRC"]
    assert torch.isfinite(outputs[5]["cond"][1]).all()
    assert [record.message for record in caplog.records] == [
        "the latents or the output of a sample are not finite by step 2: "
        "the network computes every step of it"
    ]


def test_a_network_error_ends_the_run_and_the_next_is_as_new() -> None:
    transformer, handle = cached(THREE)
    fresh = drive(transformer, [0.1])
    finish(transformer)
    with (
        pytest.raises(RuntimeError, match="size"),  # text of another batch than the latents
        transformer.cache_context("cond", step_index=0, num_inference_steps=10),
    ):
        transformer(torch.ones(2, 2, 3, 4), torch.ones(2), torch.zeros(3))
    again = drive(transformer, [0.1])
    assert all(torch.equal(a["cond"], b["cond"]) for a, b in zip(fresh, again, strict=True))
    assert decisions(handle) == ["CRRCRRCRRC"]
