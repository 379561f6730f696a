"""Runs in which a rule decides every call, row by row.

What methods with a signal have in common: where in the run a call is, which rows belong to a
sample, and how the branches of guidance relate. A rule only sees numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from jobs.benchmarks.baselines.base import BaselineResult, UnsupportedError
from sencache import Family, UnknownTransformerError, family_of, networks_of
from sencache.extension import (
    BlockStack,
    Call,
    CallPosition,
    Decision,
    Forward,
    KeptOutput,
    NetworkCall,
    ResidualReuse,
    Reuse,
    RowSelection,
    SamplerPosition,
    Trajectory,
    apply_policy,
)

Deciding = Literal["every call", "cond"]
"""Who decides: every call for its own rows, or the conditional branch for all."""


@dataclass(frozen=True)
class CallView:
    """What a rule sees of a call.

    Attributes:
        network: Attribute of the pipeline that holds the network.
        context: Name of the cache context; "" outside of one.
        step: Index of the step in the run.
        steps: Steps of the run.
        call: The call.
        samples: Samples in it.
        deciding_rows: Rows of the deciding branches, one block of samples after another.
        forward: The network's own forward.
        alone: Whether nothing is kept yet, so that all samples compute in any case.
    """

    network: str
    context: str
    step: int
    steps: int
    call: Call
    samples: int
    deciding_rows: slice
    forward: Forward
    alone: bool

    @property
    def last(self) -> bool:
        """Whether this is the last step of the run."""
        return self.step >= self.steps - 1

    def by_sample(self, rows: torch.Tensor) -> torch.Tensor:
        """The deciding rows of a tensor by sample, shape [samples, branches, ...]."""
        chosen = rows[self.deciding_rows]
        return chosen.view(-1, self.samples, *chosen.shape[1:]).transpose(0, 1)


class Rule(ABC):
    """Decides the calls of one cache context of one network in one run."""

    @abstractmethod
    def decide(self, view: CallView) -> list[bool]:
        """Whether each sample computes. Called at every step, also where all must compute."""

    def learn(self, view: CallView, kept: KeptOutput) -> None:  # noqa: B027 - blind rules need not
        """Read what is kept after a call of which some rows were computed.

        Rows that were not computed keep what they had.
        """


class RuleGate:
    """Policy and reuse of one network: lets rules decide, and shows them the outputs."""

    def __init__(
        self,
        network: str,
        make_rule: Callable[[], Rule],
        reuse: Reuse,
        deciding: Deciding,
        num_train_timesteps: int,
    ) -> None:
        self.num_train_timesteps = num_train_timesteps
        self.branches = 1
        self.forward: Forward | None = None
        self._network, self._make_rule, self._reuse = network, make_rule, reuse
        self._deciding = deciding
        self._run: Trajectory | None = None
        self._rules: dict[str | None, Rule] = {}
        self._pending: tuple[Rule, CallView] | None = None

    def prepare(self, call: Call, position: CallPosition) -> None:
        """Nothing depends on the rows."""

    def decide(self, call: Call, position: CallPosition, trajectory: Trajectory) -> Decision:
        """Ask the rule, unless the unconditional branch follows or nothing is kept yet.

        Raises:
            UnsupportedError: The number of steps is not known.
        """
        if trajectory is not self._run:
            self._run, self._rules, self.branches = trajectory, {}, 1
        known = {branch for each in trajectory.branches.values() for branch in each}
        self.branches = len(known | set(position.branches))
        self._pending = None
        if self._deciding == "cond" and "cond" not in position.branches:
            verdict = trajectory.computed or [True] * trajectory.samples
        else:
            verdict = self._ask(call, position, trajectory)
        if position.context not in trajectory.kept:
            verdict = [True] * trajectory.samples  # guidance may begin in the middle of a run
        return Decision(verdict * len(position.branches))

    def remember(
        self,
        call: Call,
        position: CallPosition,
        trajectory: Trajectory,
        decision: Decision,
        change: torch.Tensor | None,
    ) -> None:
        """Nothing to note: rules learn in :meth:`evaluate`."""

    def evaluate(
        self, network_call: NetworkCall, selection: RowSelection, kept: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """Answer a call, and show its output to the rule."""
        answer, now = self._reuse.evaluate(network_call, selection, kept)
        if self._pending is not None and any(selection.computed):
            rule, view = self._pending
            rule.learn(view, now)
        return answer, now

    def release(self) -> None:
        """Remove the reuse from the network."""
        self._reuse.release()

    def _ask(self, call: Call, position: CallPosition, trajectory: Trajectory) -> list[bool]:
        if position.num_steps is None:
            raise UnsupportedError("the sampler does not tell how many steps the run has")
        if self.forward is None:
            raise RuntimeError("the gate is not attached to a network")
        if position.context not in self._rules:
            self._rules[position.context] = self._make_rule()
        rule = self._rules[position.context]
        view = CallView(
            self._network,
            position.context or "",
            trajectory.step,
            position.num_steps,
            call,
            trajectory.samples,
            slice(0, call.rows)
            if self._deciding == "every call"
            else trajectory.rows_of("cond", position),
            self.forward,
            position.context not in trajectory.kept,
        )
        self._pending = rule, view
        return rule.decide(view)


@contextmanager
def gated(
    pipe: Any,
    make_rule: Callable[[], Rule],
    make_reuse: Callable[[torch.nn.Module, Family], Reuse],
    deciding: Deciding = "every call",
) -> Iterator[BaselineResult]:
    """Let rules decide the runs of a pipeline, until the context ends.

    Args:
        pipe: The pipeline, without a cache.
        make_rule: Makes the rule of a cache context at the start of a run.
        make_reuse: Makes the reuse of a network.
        deciding: Who decides.

    Yields:
        What happened in the latest run.

    Raises:
        UnsupportedError: A network's class is unknown, or `make_reuse` raised a ValueError.
    """
    gates: list[RuleGate] = []

    def make(
        name: str, network: torch.nn.Module, family: Family, _sampler: SamplerPosition
    ) -> tuple[RuleGate, RuleGate]:
        try:
            reuse = make_reuse(network, family)
        except ValueError as error:
            raise UnsupportedError(str(error)) from error
        unit = int(pipe.scheduler.config["num_train_timesteps"])
        gates.append(RuleGate(name, make_rule, reuse, deciding, unit))
        return gates[-1], gates[-1]

    networks = {name: (each, family_or_refuse(each)) for name, each in networks_of(pipe).items()}
    with apply_policy(pipe, make, networks) as handle:
        for gate, (_, hook) in zip(gates, handle.hooks, strict=True):
            gate.forward = hook.fn_ref.original_forward

        def nfe() -> list[float]:
            branches = max(gate.branches for gate in gates)
            return [sample.evaluations / branches for sample in handle.stats()]

        yield BaselineResult(lambda: [sample.decisions for sample in handle.stats()], nfe)


def family_or_refuse(network: torch.nn.Module) -> Family:
    """The family of a network.

    Raises:
        UnsupportedError: Its class is unknown.
    """
    try:
        return family_of(network)
    except UnknownTransformerError as error:
        raise UnsupportedError(str(error)) from error


def residual_reuse(network: torch.nn.Module, family: Family) -> ResidualReuse:
    """The reuse with its hooks on the blocks; releasing it removes them.

    Raises:
        ValueError: The residual of the blocks cannot be reused (:class:`BlockStack`).
    """
    stack = BlockStack(network, family)
    stack.attach()
    return ResidualReuse(stack)
