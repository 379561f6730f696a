"""What the sampler of a run tells: its steps, their times, and at which of them a call is.

Reads a diffusers scheduler while its pipeline samples; knows nothing of caching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from sencache.hook.call import Call
from sencache.schedules.sampler_moves import second_network_steps, step_moves, step_times

# Schedules start at 1, or at 0.999 where timesteps are counted from 0.
TOP_OF_SCHEDULE = 0.998


class SamplerPosition:
    """The timesteps of the run at hand, as the network is called with them.

    Attributes:
        boundary: tau below which the pipeline's second network takes over, if it has one.
    """

    def __init__(
        self, scheduler: Callable[[], Any] | None = None, boundary: float | None = None
    ) -> None:
        """Keep the source.

        Args:
            scheduler: Returns the pipeline's current scheduler, which callers may replace; None
                if only the transformer is known.
            boundary: tau below which the pipeline's second network takes over, if it has one.
        """
        self._scheduler, self.boundary = scheduler, boundary
        self._read: tuple[torch.Tensor, torch.Tensor] | None = None
        self._taus_read: tuple[torch.Tensor, bool, tuple[float, ...]] | None = None

    @property
    def counts(self) -> bool:
        """Whether the scheduler counts its steps, though perhaps not before the first."""
        return hasattr(self._scheduler() if self._scheduler else None, "step_index")

    @property
    def known(self) -> bool:
        """Whether there is a scheduler."""
        return self._scheduler is not None

    def num_steps(self) -> int | None:
        """Network calls of a whole run: for Heun, timesteps rather than steps. None if unknown."""
        timesteps = self._timesteps()
        return None if timesteps is None else len(timesteps)

    def run(self) -> object | None:
        """An object that differs from run to run; None if no scheduler is known."""
        return self._timesteps()

    @staticmethod
    def length(run: object | None) -> int | None:
        """Network calls of a run that :meth:`run` named; None if unknown."""
        return len(run) if isinstance(run, torch.Tensor) else None

    def step(self) -> int | None:
        """Index of the current step, as the scheduler counts; None if it does not count.

        Schedulers count from their first step, or from the step the pipeline told them to begin at.
        """
        scheduler = self._scheduler() if self._scheduler else None
        index = getattr(scheduler, "step_index", None)
        if index is None:
            index = getattr(scheduler, "begin_index", None)
        return None if index is None else int(index)

    def moves(self) -> tuple[float, ...]:
        """How far each step's output moves the final latents (`sencache.schedules.sampler_moves`).

        Raises:
            ValueError: No scheduler is known, or it is random or not linear in the outputs.
        """
        timesteps = self._on_host()
        if self._scheduler is None or timesteps is None:
            raise ValueError(
                "a plan needs the sampler's schedule: give apply_sencache the pipeline, not its "
                "transformer"
            )
        return step_moves(self._scheduler(), timesteps.tolist())

    def times(self, call: Call, num_train: int) -> tuple[float, ...]:
        """Tau of every step, falling; empty if unknown.

        Waits for the device once per run.
        """
        timesteps, rises = self._timesteps(), call.family.time_rises
        if timesteps is None or self._scheduler is None:
            return ()
        known = self._taus_read
        if known is None or known[0] is not timesteps or known[1] is not rises:
            taus = step_times(self._scheduler(), time_rises=rises, unit=num_train)
            known = self._taus_read = (timesteps, rises, taus)
        return known[2]

    def cuts(self, times: Sequence[float]) -> tuple[int, ...]:
        """Steps at which the second network takes over; none or one."""
        return second_network_steps(times, self.boundary)

    def starts_at_top(self, start: torch.Tensor, call: Call, num_train: int) -> torch.Tensor:
        """Whether a run whose first step had tau `start`, shape [rows], has all steps."""
        taus = self._taus(call, num_train)
        return start >= (TOP_OF_SCHEDULE if taus is None else taus.max())

    def step_of(self, tau: torch.Tensor, call: Call, num_train: int) -> torch.Tensor:
        """Index of each row's step, shape [rows].

        Timesteps that a low-precision dtype rounds to one value count as the first of them. Those
        that are rounded to the last one count as the last.

        Raises:
            RuntimeError: No scheduler is known, or it has no timesteps yet.
        """
        taus = self._taus(call, num_train)
        if taus is None:
            raise RuntimeError("the position in a schedule was asked for without a scheduler")
        earlier = (taus > tau[:, None]).sum(1)
        return torch.where(tau <= taus.min(), len(taus) - 1, earlier)

    def _timesteps(self) -> torch.Tensor | None:
        timesteps = getattr(self._scheduler() if self._scheduler else None, "timesteps", None)
        return timesteps if isinstance(timesteps, torch.Tensor) and len(timesteps) else None

    def _on_host(self) -> torch.Tensor | None:
        """The timesteps in float64 on the host; waits for the device once per run."""
        timesteps = self._timesteps()
        if timesteps is None:
            return None
        if self._read is None or self._read[0] is not timesteps:
            self._read = timesteps, timesteps.cpu().double()
        return self._read[1]

    def _taus(self, call: Call, num_train: int) -> torch.Tensor | None:
        """Tau of every step on the call's device, rounded as the call's timestep is."""
        timesteps = self._timesteps()
        if timesteps is None:
            return None
        dtype = torch.as_tensor(call.arguments[call.family.timestep]).dtype
        taus = timesteps.to(call.latents.device, dtype).float() / num_train
        return 1 - taus if call.family.time_rises else taus
