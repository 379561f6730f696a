"""The interface of a policy, and what it returns: a decision about one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from sencache.hook.call import Call
from sencache.hook.trajectory import CallPosition, Trajectory
from sencache.policies.sensitivity_rule import Verdict
from sencache.profiles.metadata import Branch
from sencache.reuse.base import RowGroup


@dataclass(frozen=True)
class Decision:
    """What to do with a call.

    Attributes:
        computed: Per row of the call: whether the network runs for it.
        verdicts: The deciding branches' verdicts, where there was an earlier output to reuse.
        scores: Per deciding branch, the predicted change of each row, shape [rows].
        groups: All rows, by the cache schedule that they follow; empty without schedules.
    """

    computed: list[bool]
    verdicts: Mapping[Branch, Verdict] = field(default_factory=dict)
    scores: Mapping[Branch, torch.Tensor] = field(default_factory=dict)
    groups: tuple[RowGroup, ...] = ()

    @classmethod
    def by(cls, computed: list[bool], verdicts: Mapping[Branch, Verdict]) -> Decision:
        """A decision with the scores of the verdicts."""
        scores = {branch: verdict.score for branch, verdict in verdicts.items()}
        return cls(computed, verdicts, scores)


@dataclass(frozen=True)
class Restart:
    """Says that the call begins another trajectory than the current one.

    Attributes:
        missed: Steps of the new trajectory that were counted as the current one's.
    """

    missed: int = 0


class Policy(Protocol):
    """Decides which rows of a call the network computes.

    Attributes:
        num_train_timesteps: What timesteps are divided by to get tau.
    """

    num_train_timesteps: int

    def prepare(self, call: Call, position: CallPosition) -> None:
        """Get ready for the rows of a call."""
        ...

    def decide(
        self, call: Call, position: CallPosition, trajectory: Trajectory
    ) -> Decision | Restart:
        """Decide a call, or say that it begins another trajectory."""
        ...

    def remember(
        self,
        call: Call,
        position: CallPosition,
        trajectory: Trajectory,
        decision: Decision,
        change: torch.Tensor | None,
    ) -> None:
        """Take note of a call after its evaluation.

        Args:
            call: The call.
            position: Where it is.
            trajectory: What is kept.
            decision: What was done.
            change: rms(f_new - f_r) of each row of the call; None where it was not measured.
        """
        ...


def unnamed_branches() -> str:
    """The error text for a loop that calls one step twice without naming the branches."""
    return (
        "the transformer was called twice with the same latents and timestep outside of a cache "
        "context, so the branches of guidance cannot be told apart; wrap the calls in "
        '`with transformer.cache_context("cond"):` and `with transformer.cache_context("uncond"):`'
    )


NO_END = (
    "SenCache reuses nothing in this run: the pipeline publishes no step_index through "
    "cache_context and the network is not run from the start of the schedule, so its last step, "
    "which has to be computed, is not known; give apply_sencache the pipeline, not its transformer"
)
NOT_FINITE = (
    "the latents or the output of a sample are not finite by step %d: "
    "the network computes every step of it"
)
