"""State of one sampling trajectory: from its first network call to the pipeline's return."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from sencache.families import Call
from sencache.policy import RowMemory
from sencache.profile import Branch
from sencache.stats import StatsRecorder


@dataclass
class Track:
    """A branch that decides: its latents and memory at each row's last computed step."""

    latents: torch.Tensor
    memory: RowMemory


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

    def step_of(self, context: str | None, published: int | None) -> int | None:
        """The step a call belongs to, or None if it belongs to another trajectory.

        Args:
            context: Name of the call's context.
            published: Step index from the pipeline, if it tells. Without it, a context that
                comes again begins the next step.
        """
        if published is None:
            return self.step + 1 if context in self.done else self.step
        if published < self.step or (published == self.step and context in self.done):
            return None
        return published

    def enter(self, step: int) -> None:
        """Move to a step."""
        if step != self.step:
            self.step, self.done, self.computed = step, set(), None
