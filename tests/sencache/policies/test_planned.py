"""The planned policy on real, tiny pipelines: exact budgets, exact equality where due."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from sencache import (
    ProfileError,
    ProfileWarning,
    SenCacheConfig,
    SensitivityProfile,
    apply_sencache,
    calibrate,
    remove_sencache,
)
from sencache.schedules.planner import make_schedule
from sencache.schedules.sampler_moves import step_moves
from tests.sencache.support.toys import (
    CountRows,
    embeddings,
    euler,
    make_profile,
    sample,
    tiny_pipe,
    unipc,
)

STEPS = 12
OPTIONS: dict[str, Any] = {
    "negative_prompt_embeds": embeddings([99]),
    "height": 32,
    "width": 32,
    "num_frames": 5,
    "num_inference_steps": STEPS,
    "guidance_scale": 4.0,
}


class Embedded:
    """A tiny pipeline that takes captions: each names the seed of its embedding."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipe, name)

    def __call__(self, prompt: list[str], **options: Any) -> Any:
        seeds = [int(caption) for caption in prompt]
        rows = {"negative_prompt_embeds": embeddings([99]).expand(len(seeds), -1, -1)}
        return self.pipe(prompt_embeds=embeddings(seeds), **(options | rows))


def measured(pipe: Any, gain_clips: int = 0) -> SensitivityProfile:
    return calibrate(
        Embedded(pipe),
        ["1", "2"],
        model="tiny",
        seeds=[1, 2],
        call_kwargs=OPTIONS,
        gain_clips=gain_clips,
        progress=False,
    )


@pytest.fixture(scope="module")
def profile() -> SensitivityProfile:
    return measured(tiny_pipe())


@pytest.mark.parametrize("scheduler", [euler, unipc])
@pytest.mark.parametrize("budget", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_exactly_as_many_steps_run_as_the_budget_says(
    profile: SensitivityProfile, scheduler: Any, budget: float, guidance: float
) -> None:
    pipe = tiny_pipe(scheduler())
    handle = apply_sencache(pipe, SenCacheConfig(policy="planned", budget=budget), profile)
    counter = CountRows(pipe.transformer.patch_embedding)
    sample(pipe, [3, 4, 5], STEPS, guidance_scale=guidance)
    branches = 2 if guidance > 1 else 1
    computed = round(budget * STEPS)
    assert [stats.nfe for stats in handle.stats()] == [computed] * 3
    assert counter.rows == [3] * computed * branches
    assert all(stats.decisions[0] == stats.decisions[-1] == "C" for stats in handle.stats())


def test_all_steps_are_no_cache(profile: SensitivityProfile) -> None:
    pipe = tiny_pipe()
    plain = sample(pipe, [3, 4], STEPS)
    handle = apply_sencache(pipe, SenCacheConfig(policy="planned", budget=1.0), profile)
    assert torch.equal(sample(pipe, [3, 4], STEPS), plain)
    assert [stats.nfe for stats in handle.stats()] == [STEPS] * 2


@pytest.mark.parametrize("repair", [True, False])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_sampler_gets_what_the_plan_says(
    profile: SensitivityProfile, order: int, repair: bool
) -> None:
    """The same run by hand: a loop that asks the network and mixes its outputs itself."""
    pipe = tiny_pipe()
    config = SenCacheConfig(policy="planned", budget=0.5, order=order, repair=repair)
    handle = apply_sencache(pipe, config, profile)
    got = sample(pipe, [3, 4], STEPS)
    remove_sencache(pipe)
    pipe.scheduler.set_timesteps(STEPS)
    assert profile.drift is not None
    schedule = make_schedule(
        profile.drift.at(tuple((pipe.scheduler.timesteps.double() / 1000).tolist())),
        step_moves(pipe.scheduler),
        STEPS // 2,
        order=order,
        repair=repair,
    )
    known: dict[str, dict[int, torch.Tensor]] = {"cond": {}, "uncond": {}}
    original, calls = pipe.transformer.forward, iter(range(2 * STEPS))

    def by_hand(**arguments: Any) -> tuple[torch.Tensor]:
        step, branch = divmod(next(calls), 2)
        outputs = known["cond" if branch == 0 else "uncond"]
        if step in schedule.computed:
            outputs[step] = original(**arguments)[0]
        forecast = schedule.forecasts.get(step)
        if forecast is None:
            return (outputs[step],)
        pairs = zip(forecast.anchors, forecast.weights, strict=True)
        return (sum(outputs[anchor] * weight for anchor, weight in pairs),)  # type: ignore[return-value]

    pipe.transformer.forward = by_hand  # type: ignore[method-assign]
    assert torch.allclose(got, sample(pipe, [3, 4], STEPS), atol=2e-4)
    assert handle.stats()[0].decisions == "".join(
        "C" if step in schedule.computed else "R" for step in range(STEPS)
    )


@pytest.mark.parametrize("scheduler", [euler, unipc])
def test_a_row_of_a_batch_is_its_run_alone(profile: SensitivityProfile, scheduler: Any) -> None:
    pipe = tiny_pipe(scheduler())
    apply_sencache(pipe, SenCacheConfig(policy="planned", budget=0.5), profile)
    together = sample(pipe, [3, 4, 5, 6], STEPS)
    for row, seed in enumerate([3, 4, 5, 6]):
        alone = sample(pipe, [seed], STEPS)[0]
        assert (together[row] - alone).abs().max() <= 1e-5 * alone.square().mean().sqrt()


@pytest.mark.parametrize("broken_at", [0, 3, 7])
def test_an_aborted_run_leaves_nothing_behind(profile: SensitivityProfile, broken_at: int) -> None:
    pipe = tiny_pipe()
    apply_sencache(pipe, SenCacheConfig(policy="planned", budget=0.5), profile)
    fresh = sample(pipe, [3], STEPS)

    def stop(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step == broken_at:
            raise KeyboardInterrupt
        return values

    with pytest.raises(KeyboardInterrupt):
        sample(pipe, [3], STEPS, callback_on_step_end=stop)
    assert torch.equal(sample(pipe, [3], STEPS), fresh)


def test_nothing_waits_for_the_device(
    profile: SensitivityProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tiny_pipe()
    plain_counts: dict[str, int] = {}

    def count(into: dict[str, int]) -> None:
        for name in ("tolist", "item", "__bool__"):
            original = getattr(torch.Tensor, name)

            def counted(
                self: torch.Tensor, *args: Any, _name: str = name, _original: Any = original
            ) -> Any:
                into[_name] = into.get(_name, 0) + 1
                return _original(self, *args)

            monkeypatch.setattr(torch.Tensor, name, counted)

    apply_sencache(pipe, SenCacheConfig(policy="planned", budget=0.5), profile)
    sample(pipe, [3], STEPS)  # plans
    remove_sencache(pipe)
    with monkeypatch.context():
        count(plain_counts)
        sample(pipe, [3], STEPS)
    monkeypatch.undo()
    counts: dict[str, int] = {}
    apply_sencache(pipe, SenCacheConfig(policy="planned", budget=0.5), profile)
    count(counts)
    sample(pipe, [3], STEPS)
    extra = {name: counts.get(name, 0) - plain_counts.get(name, 0) for name in counts}
    assert extra.get("item", 0) <= 0
    assert extra.get("__bool__", 0) <= 0
    assert extra.get("tolist", 0) <= 3  # the schedule, once a run


def test_a_plan_serves_other_steps_and_shifts(profile: SensitivityProfile) -> None:
    pipe = tiny_pipe()
    handle = apply_sencache(pipe, SenCacheConfig(policy="planned", budget=0.5), profile)
    for steps in (2, 3, 8, 20):
        clip = sample(pipe, [3], steps)
        assert torch.isfinite(clip).all()
        assert handle.stats()[0].nfe == max(2, steps // 2) if steps > 2 else 2


def test_forecasts_are_better_than_hold_and_repaired_ones_best(
    profile: SensitivityProfile,
) -> None:
    pipe = tiny_pipe()
    plain = sample(pipe, [7, 8, 9], STEPS)

    def error(**options: Any) -> float:
        config = SenCacheConfig(policy="planned", budget=0.5, **options)
        apply_sencache(pipe, config, profile)
        clips = sample(pipe, [7, 8, 9], STEPS)
        remove_sencache(pipe)
        return (clips - plain).square().mean().sqrt().item()

    assert error(repair=True) < error(repair=False) < error(order=0, repair=False)


def test_every_refresh_tells_the_forecast_error_beside_the_expected_one(
    profile: SensitivityProfile,
) -> None:
    """On the very clips of the calibration; without forecasts before it the output is the same."""
    pipe = tiny_pipe()
    config = SenCacheConfig(policy="planned", budget=0.75)
    handle = apply_sencache(pipe, config, profile)
    sample(pipe, [1, 2], STEPS)
    rows = handle.stats()
    for stats in rows:
        computed = [step for step, what in enumerate(stats.decisions) if what == "C"]
        assert [refresh.step for refresh in stats.refreshes] == computed[1:]
    predicted = torch.tensor([[r.predicted or 0.0 for r in stats.refreshes] for stats in rows])
    actual = torch.tensor([[r.actual or 0.0 for r in stats.refreshes] for stats in rows])
    # The expected one is a root mean square over clips and of guided outputs, a factor above.
    ratio = predicted.square().mean(0).sqrt() / actual.square().mean(0).sqrt()
    assert 0.2 < ratio.log().mean().exp() < 20


def test_what_a_plan_needs_is_told() -> None:
    pipe = tiny_pipe()
    config = SenCacheConfig(policy="planned", budget=0.5)
    with pytest.raises(ProfileError, match="drift of the output"):
        apply_sencache(pipe, config, make_profile())
    with pytest.raises(ValueError, match="give apply_sencache the pipeline"):
        apply_sencache(pipe.transformer, config, measured(tiny_pipe()))


@pytest.mark.slow
def test_the_gain_is_measured_on_request() -> None:
    profile = measured(tiny_pipe(), gain_clips=1)
    assert profile.drift is not None
    assert len(set(profile.drift.gain)) > 1
    assert all(gain > 0 for gain in profile.drift.gain)
    again = SensitivityProfile.from_json(profile.to_json())
    assert again == profile
    other = dataclasses.replace(profile.drift, gain=(1.0,) * STEPS)
    assert dataclasses.replace(profile, drift=other).hash != profile.hash


def test_a_run_too_short_for_its_gain_still_makes_a_profile() -> None:
    with pytest.warns(ProfileWarning, match="gain is left at 1: a run of 4 steps is too short"):
        profile = calibrate(
            Embedded(tiny_pipe()),
            ["1"],
            model="tiny",
            seeds=[1],
            call_kwargs=OPTIONS | {"num_inference_steps": 4},
            gain_clips=1,
            progress=False,
        )
    assert profile.drift is not None
    assert profile.drift.gain == (1.0,) * 4
