"""The plan of a run from settings and a profile: by its budget, or by the error that it may have.

Everything is known before the run: the plan, its number of network evaluations, and the error of
the final latents that the profile promises for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sencache.config import SenCacheConfig
from sencache.profiles.metadata import ProfileError
from sencache.schedules.budget import (
    FEW_STEPS,
    LOW_MAX_GAP,
    UNREPAIRED_BUDGET,
    computed_steps,
    is_low,
    least_computed,
)
from sencache.schedules.planner import CacheSchedule, fewest_steps, make_schedule

GROWTH = 1.2
"""Power with which errors grow with their prediction; between 1.05 and 1.4 from model to model."""
SAME_AT = 0.01
"""Error at which prediction and promise are the same."""

if TYPE_CHECKING:
    from sencache.profiles.profile import SensitivityProfile


def plan_for(
    config: SenCacheConfig,
    profile: SensitivityProfile,
    times: Sequence[float],
    moves: Sequence[float],
    cuts: Sequence[int] = (),
) -> CacheSchedule:
    """The cache schedule that policy `planned` follows.

    Args:
        config: With a budget or a largest error.
        profile: With a drift over tau; a prior goes through
            :func:`sencache.profiles.noise_levels.for_sampler` first.
        times: Tau of every step of the run, falling, shape [T].
        moves: Of the sampler (:func:`sencache.schedules.sampler_moves.step_moves`), shape [T].
        cuts: Steps at which another network takes over.

    Raises:
        ProfileError: The profile has no drift, or times that do not fall.
    """
    if profile.drift is None:
        raise ProfileError(
            'policy="planned" needs a profile with the drift of the output, which this one was '
            "measured without; measure it anew with sencache.calibrate"
        )
    steps = len(times)
    by_error = config.budget is None
    if steps < 3 or (by_error and steps <= FEW_STEPS):
        return CacheSchedule(steps, tuple(range(steps)), {}, 0.0)
    drift = profile.drift.at(times)
    options: dict[str, Any] = {
        "order": config.order,
        "repair": config.repair,
        "cuts": tuple(cuts),
    }
    if config.budget is None:
        limit = _predicted(config.error_limit) / profile.error_scale
        return fewest_steps(drift, moves, limit, **options)
    computed = computed_steps(config.budget, steps)
    if follows_fits(config):
        for plan in profile.plans:
            if len(plan.computed) == computed and plan.is_for(times, moves):
                return plan.schedule(_predicted(plan.error) / profile.error_scale)
    computed = max(computed, least_computed(steps, cuts))
    if is_low(config.budget):
        options |= {"max_gap": LOW_MAX_GAP, "free_end": True}
        options["repair"] = config.repair and config.budget >= UNREPAIRED_BUDGET
    return make_schedule(drift, moves, computed, **options)


def follows_fits(config: SenCacheConfig) -> bool:
    """Whether runs by these settings follow fitted plans of the profile, where it has one.

    They do with a budget. A gate parts rows in the middle of a plan, and other settings of the
    forecast are there to be compared, so both leave the plan to the drift.
    """
    return config.budget is not None and (config.order, config.repair, config.gate) == (1, True, 0)


def promised_error(schedule: CacheSchedule, profile: SensitivityProfile) -> float:
    """Relative error of the final latents that a profile promises for a schedule.

    The rms difference to the latents of the uncached run, divided by the rms of those latents, as
    the root mean square over clips.
    """
    return promise(schedule.error * profile.error_scale)


def promise(predicted: float) -> float:
    """The error that is promised where the drift predicts an error.

    Large errors change what the network sees at the computed steps, so they grow faster than the
    drift, which is measured on clean runs, can tell: with the power :data:`GROWTH`.

    Args:
        predicted: Error of a schedule times the profile's `error_scale`.
    """
    return SAME_AT * (predicted / SAME_AT) ** GROWTH


def scale_correction(measured: float, promised: float) -> float:
    """The factor of a profile's `error_scale` with which a promise would have been right."""
    return (measured / promised) ** (1 / GROWTH)


def _predicted(promised: float) -> float:
    """The prediction that gives a promise; the inverse of :func:`promise`."""
    return SAME_AT * (promised / SAME_AT) ** (1 / GROWTH)


def plan_of_run(
    config: SenCacheConfig,
    profile: SensitivityProfile,
    scheduler: Any,
    *,
    time_rises: bool = False,
    boundary: float | None = None,
) -> CacheSchedule:
    """The plan of a whole run, before it begins. Loads torch.

    Args:
        config: As for :func:`plan_for`.
        profile: Of the model, or a prior.
        scheduler: A diffusers scheduler whose timesteps are set for the run. It is not changed.
        time_rises: Whether the family's network is called with 1 - tau
            (:attr:`sencache.Family.time_rises`).
        boundary: tau below which the pipeline's second network takes over, if it has one.

    Raises:
        ProfileError: The profile does not go with the scheduler, or has no drift.
        ValueError: The sampler is random or not linear in the outputs.
    """
    from sencache.profiles.noise_levels import for_sampler
    from sencache.schedules.sampler_moves import second_network_steps, step_moves, step_times

    times = step_times(scheduler, time_rises=time_rises)
    cuts = second_network_steps(times, boundary)
    return plan_for(config, for_sampler(profile, scheduler), times, step_moves(scheduler), cuts)
