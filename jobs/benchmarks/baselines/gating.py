"""Runs that a rule of any kind decides call by call, row by row.

Everything that methods with a signal have in common: where in the run a call is, which rows belong
to a sample, gathering those that compute, and what the branches of guidance have to do with each
other. A rule only sees numbers.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from jobs.benchmarks.baselines.base import BaselineResult, UnsupportedError
from sencache.config import SenCacheConfig
from sencache.families.base import Family, UnknownTransformerError, family_of
from sencache.hook.attachment import attach, detach
from sencache.hook.call import Call
from sencache.hook.hook import SenCacheHook
from sencache.hook.sampler_position import SamplerPosition
from sencache.hook.trajectory import CallPosition, Trajectory
from sencache.pipelines import boundary_of, guidance_of, networks_of
from sencache.policies.base import Decision
from sencache.reuse.base import (
    Evaluation,
    Forward,
    KeptOutput,
    NetworkCall,
    Reuse,
)
from sencache.stats import RunLog

HOOK_NAME = "sencache_gated"

Deciding = Literal["every call", "cond"]
"""Who decides: every call for its own rows, or the conditional branch for all."""


@dataclass(frozen=True)
class Sight:
    """What a rule is shown of a call.

    Attributes:
        network: Attribute of the pipeline that holds the network.
        context: Name of the cache context; "" outside of one.
        step: Index of the step in the run.
        steps: Steps of the run.
        call: The call.
        samples: Samples in it.
        part: Rows of the deciding branches, one block of samples after another.
        forward: The network's own forward.
        alone: Whether there is nothing to reuse yet, so that all samples compute anyway.
    """

    network: str
    context: str
    step: int
    steps: int
    call: Call
    samples: int
    part: slice
    forward: Forward
    alone: bool

    @property
    def last(self) -> bool:
        """Whether this is the last step of the run."""
        return self.step >= self.steps - 1

    def by_sample(self, rows: torch.Tensor) -> torch.Tensor:
        """The deciding rows of a tensor, those of a sample together: [samples, branches, ...]."""
        chosen = rows[self.part]
        return chosen.view(-1, self.samples, *chosen.shape[1:]).transpose(0, 1)


class Rule(ABC):
    """Decides the calls of one cache context of one network in one run; made anew for the next."""

    @abstractmethod
    def decide(self, sight: Sight) -> list[bool]:
        """Whether each sample computes. Asked at every step, also where all must compute."""

    def learn(self, sight: Sight, held: KeptOutput) -> None:  # noqa: B027 - blind rules need not
        """Look at what is held after a call of which some rows were computed.

        Rows that were not still hold what they did.
        """


class RuleGate:
    """Judge and reuse of one network: lets rules decide, and shows them what came of it."""

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
        self._pending: tuple[Rule, Sight] | None = None

    def prepare(self, call: Call, moment: CallPosition) -> None:
        """See :class:`AnyJudge`; nothing to prepare."""

    def decide(self, call: Call, moment: CallPosition, trajectory: Trajectory) -> Decision:
        """See :class:`AnyJudge`.

        Raises:
            UnsupportedError: The number of steps is not known.
        """
        if trajectory is not self._run:
            self._run, self._rules, self.branches = trajectory, {}, 1
        known = {branch for each in trajectory.branches.values() for branch in each}
        self.branches = len(known | set(moment.branches))
        self._pending = None
        if self._deciding == "cond" and "cond" not in moment.branches:
            verdict = trajectory.computed or [True] * trajectory.samples
        else:
            verdict = self._ask(call, moment, trajectory)
        if moment.context not in trajectory.held:
            verdict = [True] * trajectory.samples  # guidance may come on in the middle of a run
        return Decision(verdict * len(moment.branches))

    def remember(
        self,
        call: Call,
        moment: CallPosition,
        trajectory: Trajectory,
        decision: Decision,
        change: torch.Tensor | None,
    ) -> None:
        """See :class:`AnyJudge`; rules learn from outputs, right when they are there."""

    def evaluate(
        self, asked: NetworkCall, work: Evaluation, held: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """See :class:`Reuse`."""
        answer, kept = self._reuse.evaluate(asked, work, held)
        if self._pending is not None and any(work.computed):
            rule, sight = self._pending
            rule.learn(sight, kept)
        return answer, kept

    def release(self) -> None:
        """See :class:`Reuse`."""
        self._reuse.release()

    def _ask(self, call: Call, moment: CallPosition, trajectory: Trajectory) -> list[bool]:
        if moment.num_steps is None:
            raise UnsupportedError("the sampler does not tell how many steps the run has")
        if self.forward is None:
            raise RuntimeError("the gate is not attached to a network")
        if moment.context not in self._rules:
            self._rules[moment.context] = self._make_rule()
        rule = self._rules[moment.context]
        sight = Sight(
            self._network,
            moment.context or "",
            trajectory.step,
            moment.num_steps,
            call,
            trajectory.samples,
            slice(0, call.rows)
            if self._deciding == "every call"
            else trajectory.part("cond", moment),
            self.forward,
            moment.context not in trajectory.held,
        )
        self._pending = rule, sight
        return rule.decide(sight)


@contextmanager
def gated(
    pipe: Any,
    make_rule: Callable[[], Rule],
    make_reuse: Callable[[torch.nn.Module, Family], Reuse],
    deciding: Deciding = "every call",
) -> Iterator[BaselineResult]:
    """Let rules decide the runs of a pipeline, and take everything off again.

    Args:
        pipe: The pipeline, without a cache.
        make_rule: Makes the rule of a cache context at the start of a run.
        make_reuse: Makes what answers the calls of a network.
        deciding: Who decides.

    Yields:
        What happened in the latest run.

    Raises:
        UnsupportedError: A network's class is unknown, or `make_reuse` raised a ValueError.
    """
    schedule, log = SamplerPosition(lambda: pipe.scheduler, boundary_of(pipe)), RunLog()
    gates: list[RuleGate] = []
    with ExitStack() as attached:
        for name, network in networks_of(pipe).items():
            family = family_or_refuse(network)
            try:
                reuse = make_reuse(network, family)
            except ValueError as error:
                raise UnsupportedError(str(error)) from error
            unit = int(pipe.scheduler.config["num_train_timesteps"])
            gate = RuleGate(name, make_rule, reuse, deciding, unit)
            attached.callback(gate.release)
            hook = SenCacheHook(
                SenCacheConfig(policy="planned"),  # only says that steps may be reused
                "",
                family,
                gate,
                gate,
                schedule,
                log,
                functools.partial(guidance_of, pipe, None),
            )
            attach(network, hook, HOOK_NAME)
            attached.callback(detach, network, HOOK_NAME)
            gate.forward = hook.fn_ref.original_forward
            gates.append(gate)

        def nfe() -> list[float]:
            branches = max(gate.branches for gate in gates)
            return [sample.evaluations / branches for sample in log.samples()]

        yield BaselineResult(lambda: [sample.decisions for sample in log.samples()], nfe)


def family_or_refuse(network: torch.nn.Module) -> Family:
    """The family of a network.

    Raises:
        UnsupportedError: Its class is unknown.
    """
    try:
        return family_of(network)
    except UnknownTransformerError as error:
        raise UnsupportedError(str(error)) from error
