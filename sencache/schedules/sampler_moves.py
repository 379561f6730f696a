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

import torch

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
        _known[key] = _response(copy.deepcopy(scheduler))
    return _known[key]


def step_times(scheduler: Any, *, time_rises: bool = False) -> tuple[float, ...]:
    """Tau of every step of a diffusers scheduler whose timesteps are set, falling, shape [T].

    Args:
        scheduler: The scheduler.
        time_rises: Whether the network is called with 1 - tau.
    """
    taus = scheduler.timesteps.cpu().double() / int(scheduler.config["num_train_timesteps"])
    return tuple((1 - taus if time_rises else taus).tolist())


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


def _response(scheduler: Any) -> tuple[float, ...]:
    """The response of a scheduler, which this function may change."""
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
    response = latents[:, 0].double()
    once, twice, never = response[:steps], response[steps:-1], response[-1]
    scale = once.abs().max().clamp(min=TOLERANCE)
    if (twice - 2 * once).abs().max() > 1e-3 * scale or never.abs().item() > TOLERANCE:
        raise ValueError(
            f"{type(scheduler).__name__} is random or not linear in the outputs; {UNPLANNED}"
        )
    return tuple(once.tolist())
