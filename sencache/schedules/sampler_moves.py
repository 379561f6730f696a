"""How far a sampler moves the final latents per unit of output at each step.

A flow's Euler step moves them by the difference of sigma. Multistep samplers (UniPC, DPM-Solver++)
use an output again in later steps; the move is the sum of all its uses. Nearly all samplers are
linear in the outputs, so the moves are an impulse response: one run of the scheduler on numbers
instead of latents, in which element j sees an output of 1 at step j.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sencache.schedules.drift import Array

TOLERANCE = 1e-6
MOST_KNOWN = 64
UNPLANNED = (
    "what an output does in the end cannot be told, so no plan can be made: use another sampler, "
    'or policy="paper", which decides step by step'
)

_known: dict[tuple[Any, ...], tuple[float, ...]] = {}
"""Responses by everything they depend on; the keys are values, so no scheduler is kept alive."""


def step_moves(scheduler: Any, timesteps: Sequence[float] | None = None) -> tuple[float, ...]:
    """Change of the final latents per unit of output at each step, shape [T], with its sign.

    Computed once per kind of scheduler, settings and timesteps.

    Args:
        scheduler: A diffusers scheduler whose timesteps are set. It is not changed.
        timesteps: Its timesteps, where the caller has read them from the device already.

    Raises:
        ValueError: The sampler is not linear in the outputs, or is random, and so has no moves.
    """
    config = json.dumps(dict(scheduler.config), sort_keys=True, default=str)
    sigmas = getattr(scheduler, "sigmas", None)
    key = (
        type(scheduler),
        config,
        tuple(scheduler.timesteps.tolist() if timesteps is None else timesteps),
        tuple(sigmas.tolist()) if isinstance(sigmas, torch.Tensor) else None,
    )
    if key not in _known:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        is_scaled = _is_scaled_flow(scheduler)
        _known[key] = (
            _scaled_moves(scheduler)
            if is_scaled
            else tuple(_responses(copy.deepcopy(scheduler))[:, -1].tolist())
        )
    return _known[key]


def step_responses(scheduler: Any) -> Array:
    """Change of the latents before each step per unit of output at each step, shape [T, T + 1].

    Row j, column s: what an output of 1 at step j adds to the latents before step s. The last
    column is the end of the run, which :func:`step_moves` gives.

    Args:
        scheduler: A diffusers scheduler whose timesteps are set. It is not changed.

    Raises:
        ValueError: The sampler is not linear in the outputs, or is random; or the pipeline scales
            what the network gives, as for Cosmos 2.
    """
    if _is_scaled_flow(scheduler):
        raise ValueError(
            f"{type(scheduler).__name__} has noise levels beyond 1, where the pipeline scales the "
            "network's output; what it adds to the latents at each step is not known"
        )
    return _responses(copy.deepcopy(scheduler))


def step_times(
    scheduler: Any, *, time_rises: bool = False, unit: int | None = None
) -> tuple[float, ...]:
    """Tau of every step of a diffusers scheduler whose timesteps are set, falling, shape [T].

    The timestep in units of `num_train_timesteps`. Where latents are clip + sigma * noise, with
    sigma beyond 1 (EDM, arXiv 2206.00364), it is the share of noise, sigma / (sigma_data + sigma).

    Args:
        scheduler: The scheduler.
        time_rises: Whether the network is called with 1 - tau.
        unit: What timesteps are divided by; None for the scheduler's num_train_timesteps.
    """
    data = edm_scale(scheduler)
    if data is not None:
        sigmas = scheduler.sigmas[: len(scheduler.timesteps)].cpu().double()
        return tuple((sigmas / (data + sigmas)).tolist())
    unit = int(scheduler.config["num_train_timesteps"]) if unit is None else unit
    taus = scheduler.timesteps.cpu().double() / unit
    return tuple((1 - taus if time_rises else taus).tolist())


def edm_scale(scheduler: Any) -> float | None:
    """Rms of clips where a scheduler's latents are clip + sigma * noise; None where they are not.

    That is so for the EDM schedulers of diffusers 0.42, and for a flow-matching scheduler whose
    sigmas go beyond 1, which Cosmos 2 wraps its network for.

    Args:
        scheduler: A diffusers scheduler whose timesteps are set.
    """
    if not hasattr(scheduler, "sigmas"):
        return None
    if "EDM" in type(scheduler).__name__:
        return float(scheduler.config["sigma_data"])
    return 1.0 if _is_scaled_flow(scheduler) else None


def _largest(sigmas: torch.Tensor) -> float:
    """The largest noise level; samplers keep theirs on the CPU, so nothing waits for a device."""
    return float(sigmas.detach().cpu().numpy().max())


def _is_scaled_flow(scheduler: Any) -> bool:
    """Whether a flow-matching scheduler has sigmas that are no share of noise."""
    sigmas = getattr(scheduler, "sigmas", None)
    is_flow = type(scheduler).__name__.startswith("FlowMatch")
    return is_flow and isinstance(sigmas, torch.Tensor) and _largest(sigmas) > 1 + TOLERANCE


def second_network_steps(times: Sequence[float], boundary: float | None) -> tuple[int, ...]:
    """Steps at which a pipeline's second network takes over; none or one.

    Args:
        times: Tau of every step, falling.
        boundary: tau below which it does; None without a second network.
    """
    if boundary is None:
        return ()
    below = [step for step, tau in enumerate(times) if tau < boundary]
    return tuple(below[:1]) if below and below[0] > 0 else ()


def _scaled_moves(scheduler: Any) -> tuple[float, ...]:
    """The moves of a flow network that is wrapped for latents of clip + sigma * noise.

    With t = sigma / (1 + sigma), the pipeline turns the output F into the clip x / (1 + sigma)
    - t * F. Its Euler steps over sigma then are those of the flow over t: the products of the
    factors (1 + sigma') / (1 + sigma) of later steps cancel but for the last.
    """
    sigmas = scheduler.sigmas.cpu().double()
    times = sigmas / (1 + sigmas)
    return tuple(((1 + sigmas[-1]) * (times[1:] - times[:-1])).tolist())


def _responses(scheduler: Any) -> Array:
    """The responses of a scheduler, which this function may change, shape [T, T + 1]."""
    for name, value in list(vars(scheduler).items()):
        if isinstance(value, torch.Tensor):
            setattr(scheduler, name, value.cpu())
    if hasattr(scheduler, "_begin_index"):
        scheduler._begin_index = None
    timesteps = scheduler.timesteps
    steps = len(timesteps)
    if hasattr(scheduler, "_step_index"):
        scheduler._step_index = None
    for name in ("model_outputs", "timestep_list"):
        if hasattr(scheduler, name):  # history of an earlier run
            setattr(scheduler, name, [None] * len(getattr(scheduler, name)))
    for name in ("lower_order_nums", "this_order"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, 0)
    if hasattr(scheduler, "last_sample"):
        scheduler.last_sample = None
    # Row i has an impulse of 1 at step i, row steps + i one of 2, the last row none.
    strength = torch.cat([torch.ones(steps), 2 * torch.ones(steps), torch.zeros(1)]).double()
    latents = torch.zeros(2 * steps + 1, 1, dtype=torch.float64)
    columns = [latents]
    for index, timestep in enumerate(timesteps):
        output = torch.zeros_like(latents)
        output[[index, steps + index]] = 1.0
        try:
            latents = scheduler.step(
                output * strength[:, None], timestep, latents, return_dict=False
            )[0]
        except TypeError as error:
            raise ValueError(
                f"{type(scheduler).__name__} takes more than outputs to step; {UNPLANNED}"
            ) from error
        columns.append(latents)
    response = latents[:, 0].double()
    once, twice, never = response[:steps], response[steps:-1], response[-1]
    scale = once.abs().max().clamp(min=TOLERANCE)
    if (twice - 2 * once).abs().max() > 1e-3 * scale or never.abs().item() > TOLERANCE:
        raise ValueError(
            f"{type(scheduler).__name__} is random or not linear in the outputs; {UNPLANNED}"
        )
    found: Array = torch.stack([each[:steps, 0].double() for each in columns], dim=1).numpy()
    return found.astype(np.float64)
