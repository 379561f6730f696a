"""Fitting the sums of cache schedules on cached runs of calibration clips.

From one computed step to the next the sampler goes on with a sum of the outputs that it knows.
Given what it got before, the latents at the next computed step are linear in the weights of that
sum. So the weights that bring them nearest to the uncached run's, in the mean square, are a least
squares fit. They are found step after step, each on runs with those found before: the network then
sees the latents, with their errors, that it will see in use. (S4S, arXiv 2502.17423, fits solvers
of few steps to a teacher too, by gradients through whole runs.)

Latents themselves are not read. Two runs of the same noise differ at a step by what the sampler was
given before it, times the sampler's response, so recorded outputs are enough.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sencache.apply import apply_policy
from sencache.calibration.calibrate import DEFAULT_CLIPS, sample_latents
from sencache.calibration.recording import recorded_outputs
from sencache.families.base import Family
from sencache.families.registry import family_of
from sencache.hook.sampler_position import SamplerPosition
from sencache.pipelines import networks_of
from sencache.policies.planned import PlannedPolicy
from sencache.profiles.metadata import ProfileError
from sencache.profiles.noise_levels import for_sampler
from sencache.profiles.profile import SensitivityProfile
from sencache.reuse.forecast import ForecastReuse
from sencache.schedules.budget import LOW_MAX_GAP, computed_steps
from sencache.schedules.drift import Array
from sencache.schedules.fitted import FittedPlan
from sencache.schedules.planner import make_schedule
from sencache.schedules.sampler_moves import step_moves, step_responses, step_times

OUTPUTS = 3
"""Most outputs in a sum: more are no better on other clips (BENCHMARKS.md)."""
SMALLEST = 1e-12
"""Directions of the outputs with a smaller share of their mean square are rounding: not used."""

Run = Callable[[], torch.Tensor]
"""Samples some clips, the same each time, and returns their latents, shape [clips, ...]."""


def fit_plans(
    pipe: Any,
    profile: SensitivityProfile,
    prompts: Sequence[str],
    budgets: Sequence[float],
    *,
    seeds: Sequence[int] = range(DEFAULT_CLIPS),
    call_kwargs: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SensitivityProfile:
    """A profile with fitted plans for some budgets, which planned runs with these budgets follow.

    They follow them if sampler, shift and number of steps are those of the fit, and settings of the
    forecast are left as they are. Costs an uncached run of every clip and, for a budget of k
    computed steps, k + 1 cached ones with k (k + 3) / 2 evaluations per clip and branch. Keeps one
    output per clip and step in float32 on the CPU.

    Args:
        pipe: A diffusers video pipeline with one network, without a cache.
        profile: Of the model, with a drift: it tells which steps a plan computes.
        prompts: Captions, in order; repeated if there are more seeds.
        budgets: Shares of the steps.
        seeds: One per clip. Eight clips are enough for 13 computed steps.
        call_kwargs: As for :func:`sencache.calibrate`.
        batch_size: Clips per pipeline call.
        progress: Called with the runs of all clips done, and their number.

    Raises:
        ValueError: A cache is applied, the pipeline has two networks, or does not call it once per
            step; the response of the sampler is not known; or a budget is no share of the steps.
        ProfileError: The profile has no drift.
    """
    options = dict(call_kwargs or {})
    runs = [
        functools.partial(
            sample_latents,
            pipe,
            [prompts[i % len(prompts)] for i in range(start, min(start + batch_size, len(seeds)))],
            seeds[start : start + batch_size],
            options,
        )
        for start in range(0, len(seeds), batch_size)
    ]
    scale = options.get("true_cfg_scale", profile.metadata.guidance_scale)
    clips = RunsToFit.of(pipe, runs, scale)
    drift = for_sampler(profile, pipe.scheduler).drift
    if drift is None:
        raise ProfileError(
            "plans are fitted to a profile with the drift of the output, which this one was "
            "measured without; measure it anew with sencache.calibrate"
        )
    times, moves = clips.times(), step_moves(pipe.scheduler)
    drift = drift.at(times)
    chosen = [
        make_schedule(
            drift,
            moves,
            computed_steps(budget, len(times)),
            max_gap=LOW_MAX_GAP,
            free_end=True,
        ).computed
        for budget in budgets
    ]
    passes, before = sum(len(computed) + 1 for computed in chosen), 0
    plans = {plan.key: plan for plan in profile.plans}
    for computed in chosen:
        plan = fit_plan(clips, computed, functools.partial(_report, progress, before, passes))
        plans[plan.key] = plan
        before += len(computed) + 1
    return replace(profile, plans=tuple(plans.values()))


@dataclass(frozen=True)
class RunsToFit:
    """Calibration clips: their uncached runs, and cached ones as often as they are wanted.

    Attributes:
        pipe: The pipeline, without a cache.
        network: Its network.
        family: Of the network.
        runs: One call of the pipeline each.
        guidance_scale: As for :func:`~sencache.calibration.recording.recorded_outputs`.
        outputs: Of the uncached runs, per run of shape [T, elements], in float32.
        latents: The final ones, per run of shape [elements], likewise.
    """

    pipe: Any
    network: torch.nn.Module
    family: Family
    runs: Sequence[Run]
    guidance_scale: float | None
    outputs: tuple[torch.Tensor, ...] = ()
    latents: tuple[torch.Tensor, ...] = ()

    @classmethod
    def of(cls, pipe: Any, runs: Sequence[Run], guidance_scale: float | None) -> RunsToFit:
        """Sample the uncached runs.

        Raises:
            ValueError: The pipeline has a cache or two networks, or does not call its network once
                per step.
        """
        networks = list(networks_of(pipe).values())
        if len(networks) != 1:
            raise ValueError(
                f"plans are fitted for pipelines with one network; this one has {len(networks)}"
            )
        (network,) = networks
        if getattr(network, "_cache_config", None) is not None:
            raise ValueError("a cache is applied to the pipeline; fit plans without it")
        clips = cls(pipe, network, family_of(network), runs, guidance_scale)
        made = [clips.sampled(run, None) for run in runs]
        steps = len(pipe.scheduler.timesteps)
        if any(len(outputs) != steps for outputs, _ in made):
            raise ValueError(
                f"the pipeline does not call its network once in each of its {steps} steps, so no "
                "plan can be fitted"
            )
        outputs, latents = zip(*made, strict=True)
        return replace(clips, outputs=outputs, latents=latents)

    def times(self) -> tuple[float, ...]:
        """Tau of each step, falling; the pipeline has sampled."""
        scheduler = self.pipe.scheduler
        unit = int(scheduler.config["num_train_timesteps"])
        return step_times(scheduler, time_rises=self.family.time_rises, unit=unit)

    def sampled(self, run: Run, plan: FittedPlan | None) -> tuple[torch.Tensor, torch.Tensor]:
        """What the sampler got at each step, shape [T, elements], and final latents, [elements].

        Args:
            run: One of :attr:`runs`.
            plan: Of the run; None computes every step.
        """
        with self._applied(plan), recorded_outputs(self.pipe, self.guidance_scale) as recording:
            latents = run()
        return recording.outputs().flatten(1), latents.flatten().float().cpu()

    @contextmanager
    def _applied(self, plan: FittedPlan | None) -> Iterator[None]:
        if plan is None:
            yield
            return
        schedule, order = plan.schedule(0.0), plan.order
        unit = int(self.pipe.scheduler.config["num_train_timesteps"])

        def make(
            _name: str, _network: torch.nn.Module, family: Family, sampler: SamplerPosition
        ) -> tuple[PlannedPolicy, ForecastReuse]:
            reuse = ForecastReuse(order, in_float32=family.float_latents)
            return PlannedPolicy(lambda *_: schedule, sampler, unit), reuse

        with apply_policy(self.pipe, make):
            yield


def fit_plan(
    clips: RunsToFit,
    computed: Sequence[int],
    progress: Callable[[int], None] = lambda done: None,
) -> FittedPlan:
    """Fit the sums of one plan.

    Args:
        clips: The calibration clips.
        computed: Steps that the plan computes, rising; the first is 0.
        progress: Called with the number of cached runs of all clips.

    Raises:
        ValueError: The sampler's response is not known.
    """
    scheduler = clips.pipe.scheduler
    response, steps = step_responses(scheduler), len(scheduler.timesteps)
    plan = FittedPlan(clips.times(), step_moves(scheduler), (0,), ((1.0,),), 0.0)
    for place, end in enumerate((*computed[1:], steps)):
        # The newest output alone, until the end: the fit corrects what this leads to.
        alone = (*[0.0] * min(place, OUTPUTS - 1), 1.0)
        held = replace(
            plan, computed=tuple(computed[: place + 1]), weights=(*plan.weights[:place], alone)
        )
        weights = np.array(alone) + _correction(clips, held, response[:, end])
        plan = replace(held, weights=(*held.weights[:place], tuple(weights.tolist())))
        progress(place + 1)
    error, size = 0.0, 0.0
    for run, whole in zip(clips.runs, clips.latents, strict=True):
        made = clips.sampled(run, plan)[1]
        error += (made - whole).double().square().sum().item()
        size += whole.double().square().sum().item()
    progress(len(computed) + 1)
    return replace(plan, error=float(f"{math.sqrt(error / size):.4g}"))


def _correction(clips: RunsToFit, held: FittedPlan, response: Array) -> Array:
    """What to add to the last row of a plan's weights, so that its run meets the uncached one.

    Args:
        clips: The calibration clips.
        held: The plan; its last sum is held to the end.
        response: Of the latents that are to meet, shape [T].
    """
    to_end = torch.from_numpy(response)
    count = len(held.weights[-1])
    gram, missing = np.zeros((count, count)), np.zeros(count)
    for run, whole in zip(clips.runs, clips.outputs, strict=True):
        given, _ = clips.sampled(run, held)
        known = _outputs(given[list(held.computed)].double(), held.weights)[-count:]
        left = to_end @ (whole.double() - given.double())
        gram += (known @ known.T).numpy()
        missing += (known @ left).numpy()
    # A sum that is held from its step on moves the latents by all responses from there.
    reach = response[held.computed[-1] :].sum()
    best: Array = np.linalg.lstsq(gram, missing, rcond=SMALLEST)[0] / reach
    return best


def _outputs(given: torch.Tensor, weights: Sequence[Sequence[float]]) -> torch.Tensor:
    """The network's outputs at computed steps, from what the sampler got there."""
    sums = np.zeros((len(weights), len(weights)))
    for place, row in enumerate(weights):
        sums[place, place + 1 - len(row) : place + 1] = row
    return torch.linalg.solve_triangular(torch.from_numpy(sums), given, upper=False)


def _report(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    """Report a run of one of several plans."""
    progress(before + done, total)
