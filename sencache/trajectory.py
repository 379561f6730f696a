"""State of one sampling trajectory: from its first network call to the pipeline's return."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from sencache.families import Call
from sencache.measurement import Branch
from sencache.policy import RowMemory
from sencache.stats import StatsRecorder


@dataclass(frozen=True)
class Moment:
    """Where in sampling a call is, as far as the pipeline tells.

    Attributes:
        context: Name given to ``cache_context``; None outside of one.
        step: Index of the step, if published.
        num_steps: Steps of the run; published, else configured, else None.
        branches: Guidance branches in the call, in row order.
    """

    context: str | None
    step: int | None
    num_steps: int | None
    branches: tuple[Branch, ...]


@dataclass
class Track:
    """A branch that decides.

    Attributes:
        latents: Latents of each row at its last computed step.
        memory: What else the policy remembers of that step.
        start_tau: Time of the trajectory's first step, shape [samples].
    """

    latents: torch.Tensor
    memory: RowMemory
    start_tau: torch.Tensor


@dataclass
class Trajectory:
    """What is kept while a batch of samples is made. Replaced, never reused, by the next one.

    Attributes:
        samples: Samples in the batch.
        shape, dtype, device: Of one row's latents; others mean another trajectory.
        stats: Statistics of the samples; outlives the trajectory.
        step: Index of the current step.
        done: Contexts that have been called at the current step; None is a call without one.
        outputs: Last output of each context, every row at its own last computed step.
        tracks: The deciding branches.
        computed: Verdict per sample at the current step, as decided by the cond branch.
    """

    samples: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    stats: StatsRecorder
    step: int
    done: set[str | None] = field(default_factory=set)
    outputs: dict[str | None, torch.Tensor] = field(default_factory=dict)
    tracks: dict[Branch, Track] = field(default_factory=dict)
    computed: list[bool] | None = None

    def fits(self, call: Call, samples: int) -> bool:
        """Whether a call's latents look like those of this trajectory."""
        latents = call.latents
        return (
            samples == self.samples
            and latents.shape[1:] == self.shape
            and latents.dtype == self.dtype
            and latents.device == self.device
        )

    def step_of(self, moment: Moment) -> int | None:
        """The step a call belongs to, or None if it belongs to another trajectory.

        Where the pipeline does not tell, a context that comes again begins the next step.
        """
        again = moment.context in self.done
        if moment.step is None:
            return self.step + 1 if again else self.step
        if moment.step < self.step or (moment.step == self.step and again):
            return None
        return moment.step

    def enter(self, step: int) -> None:
        """Move to a step."""
        if step != self.step:
            self.step, self.done, self.computed = step, set(), None
