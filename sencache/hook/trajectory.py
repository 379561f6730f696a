"""State of one sampling trajectory: from its first network call to the pipeline's return."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from sencache.hook.call import Call
from sencache.policies.gated import Gate, ScheduledRows
from sencache.policies.rule import RowMemory, Verdict
from sencache.profiles.metadata import Branch
from sencache.reuse.base import KeptOutput
from sencache.schedules.planner import CacheSchedule
from sencache.stats import StatsRecorder


@dataclass(frozen=True)
class CallPosition:
    """Where in sampling a call is, as far as the pipeline tells.

    Attributes:
        context: Name given to ``cache_context``; None outside of one.
        step: Index of the step, if published.
        num_steps: Steps of the run; published, else the scheduler's, else configured, else None.
        branches: Guidance branches in the call, in row order.
        sure: Whether the branches are told rather than guessed from the latents.
        run: What is another object in every run: the timesteps that the scheduler set; None if
            unknown.
    """

    context: str | None
    step: int | None
    num_steps: int | None
    branches: tuple[Branch, ...]
    sure: bool = True
    run: object | None = None


@dataclass
class BranchState:
    """A branch that decides.

    Attributes:
        latents: Latents of each row at its last computed step.
        memory: What else the policy remembers of that step.
        start_tau: Time of the trajectory's first step, shape [samples].
        seen: Latents of the latest call, kept only where calls have no context: the same again
            would be another branch of guidance.
    """

    latents: torch.Tensor
    memory: RowMemory
    start_tau: torch.Tensor
    seen: torch.Tensor | None = None


@dataclass
class Trajectory:
    """What is kept while a batch of samples is made. Replaced, never reused, by the next one.

    Attributes:
        samples: Samples in the batch.
        shape, dtype, device: Of one row's latents; others mean another trajectory.
        stats: Statistics of the samples; outlives the trajectory.
        num_steps: Steps of the run, if known; another number means another trajectory.
        step: Index of the current step.
        done: Contexts that have been called at the current step; None is a call without one.
        held: What each context reuses, every row from its own last computed step.
        tracks: The deciding branches.
        decided: Branches judged at the current step already: their verdict, and on the host per
            sample whether it computes.
        branches: Per context, the branches found in its calls.
        computed: Verdict per sample at the current step, as decided by the cond branch.
        computed_at: Step at which each row of a context was last computed.
        cond_computed_at: The same for the samples of the cond branch.
        plan: Of the run, under a planned policy.
        gate: Where the rows of the run are told apart, if they are and have not been yet.
        shares: Since then: samples, and the plan that they follow.
        seen_tau: tau of the latest step, where only that tells one run from the next.
        run: Of the moment it began at.
    """

    samples: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    stats: StatsRecorder
    num_steps: int | None
    step: int
    done: set[str | None] = field(default_factory=set)
    held: dict[str | None, KeptOutput] = field(default_factory=dict)
    tracks: dict[Branch, BranchState] = field(default_factory=dict)
    decided: dict[Branch, tuple[Verdict, list[bool]]] = field(default_factory=dict)
    branches: dict[str | None, tuple[Branch, ...]] = field(default_factory=dict)
    computed: list[bool] | None = None
    computed_at: dict[str | None, list[int]] = field(default_factory=dict)
    cond_computed_at: list[int] = field(default_factory=list)
    plan: CacheSchedule | None = None
    gate: Gate | None = None
    shares: tuple[ScheduledRows, ...] = ()
    seen_tau: torch.Tensor | None = None
    run: object | None = None

    def __post_init__(self) -> None:
        self.cond_computed_at = [-1] * self.samples

    def fits(self, call: Call, samples: int) -> bool:
        """Whether a call's latents look like those of this trajectory."""
        latents = call.latents
        return (
            samples == self.samples
            and latents.shape[1:] == self.shape
            and latents.dtype == self.dtype
            and latents.device == self.device
        )

    def step_of(self, moment: CallPosition) -> int | None:
        """The step a call belongs to, or None if it belongs to another trajectory.

        A published step that is neither the current nor the next one is of another run, where one
        was broken off. Where the pipeline does not tell, a context that comes again begins the
        next step.
        """
        if moment.num_steps != self.num_steps or moment.run is not self.run:
            return None
        again = moment.context in self.done
        if moment.step is None:
            return self.step + 1 if again else self.step
        if moment.step == self.step + 1 or (moment.step == self.step and not again):
            return moment.step
        return None

    def enter(self, step: int) -> None:
        """Move to a step."""
        if step != self.step:
            self.step, self.done, self.computed, self.decided = step, set(), None, {}

    def part(self, branch: Branch, moment: CallPosition) -> slice:
        """Rows of a branch in a call that holds several, one block of rows after another.

        The latents of a branch that is called on its own are those of any other branch.
        """
        first = moment.branches.index(branch) * self.samples if branch in moment.branches else 0
        return slice(first, first + self.samples)

    def note(self, moment: CallPosition, held: KeptOutput, computed: list[bool]) -> None:
        """Remember what a call at the current step leaves, and which rows the network computed."""
        self.held[moment.context], self.branches[moment.context] = held, moment.branches
        before = self.computed_at.get(moment.context, [-1] * len(computed))
        steps = [self.step if ran else at for ran, at in zip(computed, before, strict=True)]
        self.computed_at[moment.context] = steps
        self.done.add(moment.context)
        if "cond" in moment.branches:
            part = self.part("cond", moment)
            self.computed, self.cond_computed_at = computed[part], steps[part]
