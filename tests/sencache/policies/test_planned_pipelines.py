"""The planned policy on a tiny pipeline of every supported family."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from sencache import (
    ProfileError,
    SenCacheConfig,
    SensitivityProfile,
    apply_sencache,
    remove_sencache,
)
from sencache.extension import ForecastReuse, PlannedPolicy, apply_policy
from sencache.schedules.drift import OutputDrift
from sencache.schedules.planner import CacheSchedule
from tests.sencache.support.tiny_pipelines import (
    PIPELINES,
    STEPS,
    TinyPipeline,
    fitting_profile,
    tiny_param,
)
from tests.sencache.support.toys import (
    embeddings,
    make_profile,
    sample,
    tiny_pipe,
)

HALF = SenCacheConfig(policy="planned", budget=0.5)


@functools.cache
def made(name: str) -> Any:
    return next(tiny for tiny in PIPELINES if tiny.name == name).make()


@pytest.fixture(params=[tiny_param(tiny) for tiny in PIPELINES])
def tiny(request: pytest.FixtureRequest) -> TinyPipeline:
    return request.param


@pytest.fixture
def pipe(tiny: TinyPipeline) -> Iterator[Any]:
    pipe = made(tiny.name)
    if isinstance(pipe.scheduler, CogVideoXDPMScheduler):  # random: it has no plans
        pipe.scheduler = CogVideoXDDIMScheduler.from_config(pipe.scheduler.config)
    yield pipe
    remove_sencache(pipe)


def with_drift(profile: SensitivityProfile) -> SensitivityProfile:
    """A profile whose output moves on a bent line from noise to clip."""
    times = np.linspace(0.999, 0.01, 12)
    path = np.stack([times, times**2, times**3], axis=1)
    distances = ((path[:, None] - path[None]) ** 2).mean(-1)
    return dataclasses.replace(profile, drift=OutputDrift.of_outputs(times.tolist(), distances))


@pytest.mark.parametrize("guidance", [True, False])
def test_the_budget_is_exact_and_rows_are_their_runs_alone(
    tiny: TinyPipeline, pipe: Any, guidance: bool
) -> None:
    handle = apply_sencache(pipe, HALF, with_drift(fitting_profile(pipe)))
    together = tiny.run(pipe, [0, 1], guidance=guidance)
    cuts = len(tiny.networks) - 1
    assert [stats.nfe for stats in handle.stats()] == [max(STEPS // 2, 2 + cuts)] * 2
    assert all(len(stats.decisions) == STEPS for stats in handle.stats())
    alone = tiny.run(pipe, [1], guidance=guidance)
    rms = alone.float().square().mean().sqrt()
    assert (together[1:] - alone).abs().max() <= 1e-4 * rms


@pytest.mark.parametrize("tiny", [tiny_param(tiny, by_network=True) for tiny in PIPELINES])
@pytest.mark.parametrize("broken_at", [0, 3, STEPS - 1])
def test_a_run_after_a_broken_off_one_is_as_new(
    tiny: TinyPipeline, pipe: Any, broken_at: int
) -> None:
    handle = apply_sencache(pipe, HALF, with_drift(fitting_profile(pipe)))
    fresh = tiny.run(pipe, [0])
    wanted = handle.stats()[0].decisions

    def stop(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step == broken_at:
            raise KeyboardInterrupt
        return values

    with pytest.raises(KeyboardInterrupt):
        tiny.run(pipe, [0], callback_on_step_end=stop)
    assert torch.equal(tiny.run(pipe, [0]), fresh)
    assert handle.stats()[0].decisions == wanted


@pytest.mark.parametrize("policy", ["paper", "planned"])
def test_more_calls_a_step_than_branches_are_refused_without_contexts(policy: Any) -> None:
    """Two calls are the branches of guidance, in the order of Wan's own video-to-video loop."""
    pipe = tiny_pipe()
    config = SenCacheConfig(policy=policy, budget=0.5, epsilon=1e9, strict_fraction=0.0)
    apply_sencache(pipe, config, with_drift(make_profile()))
    latents, text = torch.randn(1, 4, 2, 4, 4), embeddings([1])
    pipe.scheduler.set_timesteps(8)
    timestep = pipe.scheduler.timesteps[:1]
    pipe.transformer(latents, timestep, text)
    pipe.transformer(latents, timestep, 0 * text)
    with pytest.raises(ValueError, match=r"called (twice|3 times) .*cache_context"):
        pipe.transformer(latents, timestep, text + 1)
    pipe.scheduler.set_timesteps(8)  # another run, which begins with the same clip
    pipe.transformer(latents, timestep, text)


def unnamed_steps(pipe: Any, steps: int) -> None:
    """Sample without contexts, as loops of the user's own do."""
    pipe.scheduler.set_timesteps(steps)
    latents = torch.randn(1, 4, 2, 4, 4)
    for timestep in pipe.scheduler.timesteps:
        output = pipe.transformer(latents, timestep[None], embeddings([1]), return_dict=False)[0]
        latents = pipe.scheduler.step(output, timestep, latents, return_dict=False)[0]


@pytest.mark.parametrize("policy", ["none", "planned"])
def test_steps_without_contexts_do_not_wait_for_the_device(
    policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tiny_pipe()
    config = SenCacheConfig(policy=policy, budget=0.5)
    profile = None if policy == "none" else with_drift(make_profile())
    handle = apply_sencache(pipe, config, profile)
    unnamed_steps(pipe, 8)  # loads what is loaded once
    waits = 0
    real = torch.equal

    def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
        nonlocal waits
        waits += 1
        return real(one, other)

    monkeypatch.setattr(torch, "equal", equal)
    unnamed_steps(pipe, 8)
    assert waits == 0
    assert len(handle.stats()[0].decisions) == 8


def test_a_run_that_begins_again_is_no_second_call_of_a_step() -> None:
    """Same timesteps, no step told: only the time that rises shows the new run."""
    pipe = tiny_pipe()
    config = SenCacheConfig(epsilon=1e9, strict_fraction=0.0)
    handle = apply_sencache(pipe, config, with_drift(make_profile()))
    pipe.scheduler.set_timesteps(8)
    times, text = pipe.scheduler.timesteps, embeddings([1])
    for index in (0, 1, 2, 0, 1):
        pipe.transformer(torch.randn(1, 4, 2, 4, 4), times[index : index + 1], text)
    assert len(handle.stats()[0].decisions) == 2


def test_guidance_that_comes_back_computes_what_is_too_old() -> None:
    pipe = tiny_pipe()
    apply_sencache(pipe, HALF, with_drift(make_profile()))
    pipe.scheduler.set_timesteps(12)
    network, text = pipe.transformer, embeddings([1])
    got = []
    for step, timestep in enumerate(pipe.scheduler.timesteps[:9]):
        latents = torch.full((1, 4, 2, 4, 4), 1.0 - step / 12)
        for name in ("cond", "uncond") if step in (0, 1, 8) else ("cond",):
            with network.cache_context(name, step_index=step, num_inference_steps=12):
                got.append(network(latents, timestep[None], text).sample)
    remove_sencache(pipe)
    assert torch.equal(got[-1], network(latents, timestep[None], text).sample)
    assert not torch.equal(got[-1], got[1])


def test_a_random_sampler_has_no_plans() -> None:
    pipe = tiny_pipe()
    apply_sencache(pipe, HALF, with_drift(make_profile()))
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True)
    with pytest.raises(
        ValueError, match=r'is random or not linear.*use another sampler, or policy="paper"'
    ):
        sample(pipe, [1], 12)


def test_plans_and_residuals_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"SenCacheConfig\.reuse is 'residual' under"):
        SenCacheConfig(policy="planned", reuse="residual")


def test_what_is_refused_leaves_nothing_on_the_blocks() -> None:
    pipe = tiny_pipe()
    config = SenCacheConfig(reuse="residual", uncond_verdict="own")
    with pytest.raises(ProfileError, match="no branch 'uncond'"):
        apply_sencache(pipe, config, make_profile(branches=("cond",)))
    handle = apply_sencache(pipe, SenCacheConfig(reuse="residual"), make_profile())
    sample(pipe, [1], 12)
    assert handle.stats()


def test_an_error_is_held_where_it_is_meant_also_with_two_networks() -> None:
    tiny = next(tiny for tiny in PIPELINES if tiny.name == "wan-experts")
    pipe = made(tiny.name)
    for held in ((1, 2), (6, 7)):

        def plan(times: Any, moves: Any, cuts: Any, held: tuple[int, ...] = held) -> CacheSchedule:
            assert cuts
            kept = tuple(step for step in range(len(times)) if step not in held)
            return CacheSchedule(len(times), kept, {}, 0.0)

        def make(_name: str, _network: Any, _family: Any, sampler: Any, plan: Any = plan) -> Any:
            return PlannedPolicy(plan, sampler, 1000), ForecastReuse(order=0)

        with apply_policy(pipe, make) as handle:
            tiny.run(pipe, [0])
        wanted = "".join("CR"[step in held] for step in range(STEPS))
        assert [stats.decisions for stats in handle.stats()] == [wanted]


def test_a_run_of_a_wider_range_than_the_calibration_is_computed_at_its_end() -> None:
    times = np.linspace(1.0, 0.3, 15)
    path = np.stack([times, times**2], axis=1)
    drift = OutputDrift.of_outputs(times.tolist(), ((path[:, None] - path[None]) ** 2).mean(-1))
    wide = drift.at(np.linspace(1.0, 0.02, 30).tolist()).matrix()
    assert (np.diff(wide[0]) > 0).all()  # the output goes on moving where nothing was measured


def test_forecasts_of_a_network_in_half_precision_are_not_rounded() -> None:
    """Wan's latents are float32: its sampler gets all outputs in it, and rows stay their own."""
    pipe = tiny_pipe()
    pipe.transformer.to(torch.bfloat16)
    given: list[torch.Tensor] = []
    step = pipe.scheduler.step

    def watched(output: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        given.append(output)
        return step(output, *args, **kwargs)

    pipe.scheduler.step = watched
    texts = {
        name: embeddings([0, 1]).bfloat16() for name in ("prompt_embeds", "negative_prompt_embeds")
    }
    sample(pipe, [0, 1], STEPS, **texts)
    assert {output.dtype for output in given} == {torch.bfloat16}
    given.clear()
    handle = apply_sencache(pipe, HALF, with_drift(fitting_profile(pipe)))
    together = sample(pipe, [0, 1], STEPS, **texts)
    assert "R" in handle.stats()[0].decisions
    assert {output.dtype for output in given} == {torch.float32}
    rounded = [torch.equal(output, output.bfloat16().float()) for output in given]
    assert not all(rounded)
    assert together.dtype == torch.float32
    assert pipe.transformer.dtype == torch.bfloat16
