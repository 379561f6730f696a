"""What is kept while one batch is sampled: from its first network call to the pipeline's return."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from sencache.hook.call import Call
from sencache.hook.conditions import Conditions
from sencache.policies.gated import Gate, ScheduledRows
from sencache.policies.sensitivity_rule import RowMemory, Verdict
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
        sure: Whether the pipeline tells the branches; else they are guessed from the latents.
        run: An object that differs from run to run (the timesteps that the scheduler set); None
            if unknown.
    """

    context: str | None
    step: int | None
    num_steps: int | None
    branches: tuple[Branch, ...]
    sure: bool = True
    run: object | None = None


@dataclass
class BranchState:
    """State of a guidance branch that decides for itself.

    Attributes:
        latents: Latents of each row at its last computed step.
        memory: What else the rule remembers of that step.
        start_tau: Time of the trajectory's first step, shape [samples].
        begun: Step at which the state began: the first, or one at which the conditions changed.
        seen: Latents of the latest call, kept only where calls have no context: a second call
            with the same latents would be another branch of guidance.
    """

    latents: torch.Tensor
    memory: RowMemory
    start_tau: torch.Tensor
    begun: int = 0
    seen: torch.Tensor | None = None


@dataclass
class Trajectory:
    """What is kept while a batch is sampled. The next batch gets a new one.

    Attributes:
        samples: Samples in the batch.
        shape, dtype, device: Of one row's latents; a call with others begins another trajectory.
        stats: Statistics of the samples; outlives the trajectory.
        num_steps: Steps of the run, if known; a call with another number begins another trajectory.
        step: Index of the current step.
        done: Contexts that were called at the current step; None is a call without one.
        kept: What each context reuses, every row from its own last computed step.
        conditions: What each context's calls were conditioned on.
        branch_states: State of the deciding branches.
        decided: Branches that decided at the current step already: their verdict, and on the host
            per sample whether it computes.
        branches: Per context, the branches found in its calls.
        computed: Verdict per sample at the current step, as decided by the cond branch.
        computed_at: Step at which each row of a context was last computed.
        cond_computed_at: The same for the samples of the cond branch.
        schedule: Cache schedule of the run, under a planned policy.
        gate: The gate of the run, as long as it is ahead; None without one.
        scheduled: After the gate: samples, and the schedule that they follow.
        seen_tau: tau of the latest step, kept where nothing else separates one run from the next.
        run: See :class:`CallPosition`; of the first call.
    """

    samples: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    stats: StatsRecorder
    num_steps: int | None
    step: int
    done: set[str | None] = field(default_factory=set)
    kept: dict[str | None, KeptOutput] = field(default_factory=dict)
    conditions: dict[str | None, Conditions] = field(default_factory=dict)
    branch_states: dict[Branch, BranchState] = field(default_factory=dict)
    decided: dict[Branch, tuple[Verdict, list[bool]]] = field(default_factory=dict)
    branches: dict[str | None, tuple[Branch, ...]] = field(default_factory=dict)
    computed: list[bool] | None = None
    computed_at: dict[str | None, list[int]] = field(default_factory=dict)
    cond_computed_at: list[int] = field(default_factory=list)
    schedule: CacheSchedule | None = None
    gate: Gate | None = None
    scheduled: tuple[ScheduledRows, ...] = ()
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

    def step_of(self, position: CallPosition) -> int | None:
        """The step a call belongs to, or None if it belongs to another trajectory.

        A published step that is neither the current nor the next one belongs to another run: this
        one was aborted. Where no step is published, the second call of a context begins the next
        step.
        """
        if position.num_steps != self.num_steps or position.run is not self.run:
            return None
        again = position.context in self.done
        if position.step is None:
            return self.step + 1 if again else self.step
        if position.step == self.step + 1 or (position.step == self.step and not again):
            return position.step
        return None

    def precedes(self, position: CallPosition) -> bool:
        """Whether a call continues the same clips, where pipelines make these in chunks.

        It does if this trajectory has come to its last step, or if the call is the next step of the
        same run, with latents of another shape.
        """
        if position.run is self.run:
            return position.step == self.step + 1
        return self.num_steps is not None and self.step == self.num_steps - 1

    def enter(self, step: int) -> None:
        """Move to a step."""
        if step != self.step:
            self.step, self.done, self.computed, self.decided = step, set(), None, {}

    def rows_of(self, branch: Branch, position: CallPosition) -> slice:
        """Rows of a branch in a call that may hold several, one block of rows after another.

        A branch that is not in the call sees the same latents as the one that is.
        """
        first = position.branches.index(branch) * self.samples if branch in position.branches else 0
        return slice(first, first + self.samples)

    def observe(self, call: Call, position: CallPosition) -> None:
        """Forget what a context kept if its call has other conditions or branches than before."""
        context = position.context
        conditions = self.conditions.setdefault(context, Conditions())
        changed = conditions.observe(call)
        if changed or self.branches.get(context, position.branches) != position.branches:
            self.kept.pop(context, None)

    def note(self, position: CallPosition, kept: KeptOutput, computed: list[bool]) -> None:
        """Keep the output of a call at the current step, and which rows the network computed."""
        self.kept[position.context], self.branches[position.context] = kept, position.branches
        before = self.computed_at.get(position.context, [-1] * len(computed))
        steps = [self.step if ran else at for ran, at in zip(computed, before, strict=True)]
        self.computed_at[position.context] = steps
        self.done.add(position.context)
        if (
            all(computed)
            and not kept.earlier
            and not kept.groups
            and position.context in self.conditions
        ):
            self.conditions[position.context].forget()
        if "cond" in position.branches:
            rows = self.rows_of("cond", position)
            self.computed, self.cond_computed_at = computed[rows], steps[rows]
