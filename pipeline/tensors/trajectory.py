"""Follows the latents of clips from noise to their last step, for those who distil a model.

A state is what the sampler holds before a step, or after the last one, in the scale of the
networks. It is taken from the calls of the scheduler's `step`: their argument `sample`, and what
the last of them returns. Written against diffusers 0.42.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.tensors.latent_scale import LatentScale

_ORDERS = ((0, 1, 2, 3), (1, 0, 2, 3))
"""Orders of axes that give (channels, frames, height, width): CogVideoX has frames first."""


class StepStates:
    """The states of one call, on the host."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._states: list[torch.Tensor] = []
        self._timesteps: list[float] = []
        self._last: torch.Tensor | None = None
        self._sigmas: list[float] = []

    @contextlib.contextmanager
    def follow(self, scheduler: Any) -> Iterator[None]:
        """Keep the states of the steps inside the block.

        Args:
            scheduler: Makes the steps of this call and of no other.
        """
        kind = type(scheduler)
        parameters = inspect.signature(kind.step)

        @functools.wraps(kind.step)
        def stepped(stepping: Any, *args: Any, **kwargs: Any) -> Any:
            if stepping is not scheduler:
                return kind.step(stepping, *args, **kwargs)
            given = parameters.bind(stepping, *args, **kwargs).arguments
            self._states.append(given["sample"].detach().to("cpu", copy=True))
            self._timesteps.append(float(torch.as_tensor(given["timestep"]).flatten()[0]))
            made = kind.step(stepping, *args, **kwargs)
            self._last = made[0].detach()
            return made

        # A bound method, because planned caching steps a copy of the scheduler to look ahead.
        scheduler.step = types.MethodType(stepped, scheduler)
        try:
            yield
        finally:
            del scheduler.step
            sigmas = getattr(scheduler, "sigmas", None)
            self._sigmas = [] if sigmas is None else [float(each) for each in sigmas]

    @property
    def timesteps(self) -> torch.Tensor:
        """The time of each state as the networks read it, float32; 0 for the last."""
        return torch.tensor([*self._timesteps, 0.0], dtype=torch.float32)

    @property
    def sigmas(self) -> list[float] | None:
        """The noise level of each state; None where the sampler lists none, or others."""
        return self._sigmas if len(self._sigmas) == len(self._timesteps) + 1 else None

    def per_clip(self, latents: Sequence[torch.Tensor], scale: LatentScale) -> list[torch.Tensor]:
        """The states of each clip, shape (states, channels, frames, height, width).

        Args:
            latents: What the decoder took for each clip, shape (channels, frames, height, width).
            scale: Of these latents.

        Raises:
            UserError: The sampler holds something else than the latents of each clip.
        """
        states = [*self._states, *(() if self._last is None else (self._last.cpu(),))]
        if not states or any(each.shape[0] != len(latents) for each in states):
            raise UserError(_REFUSED)
        return [
            _in_order(torch.stack([each[row] for each in states]), scale.normalise(wanted))
            for row, wanted in enumerate(latents)
        ]


_REFUSED = (
    "--save trajectory: the sampler of this pipeline does not work on latents of shape (channels, "
    "frames, height, width), but on tokens or on more than the clip; leave it out"
)


def _in_order(states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Order the axes of states as those of the normalised latents that the last one became."""
    found = [
        states.permute(0, *(1 + axis for axis in order)) for order in _ORDERS if states.ndim == 5
    ]
    found = [each for each in found if each.shape[1:] == wanted.shape]
    if not found:
        raise UserError(_REFUSED)
    return min(found, key=lambda each: float((each[-1].float() - wanted).square().mean()))
