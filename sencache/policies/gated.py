"""The gate of a planned run: rows that turn out hard go on by a plan with more computed steps.

Some clips drift several times faster than the profile's mean, and it shows early: where the first
forecasts of a row are off by more than was expected, its later ones are too. So all rows share the
first computed steps; at the last of these the forecast error of each row, which a computed step
tells for free, decides which of two plans it follows from there. Hard rows get `gate` evaluations
more than the budget says and every other row one less: where one row in `gate + 1` is hard, the
mean is the budget. A row's plan depends on nothing but the row, so a sample is the same in any
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sencache.config import SenCacheConfig
from sencache.schedules.drift import OutputDrift
from sencache.schedules.planner import CacheSchedule, planned

if TYPE_CHECKING:
    from sencache.stats import SampleStats

SHARED = 5
"""Computed steps that all rows share; the gate is at the last of them.

Later gates know better which rows are hard but leave less to be gained; see BENCHMARKS.md.
"""


@dataclass(frozen=True)
class ScheduledRows:
    """Samples of a batch that follow one plan.

    Attributes:
        samples: Their numbers in the batch, rising.
        plan: What they follow.
    """

    samples: tuple[int, ...]
    plan: CacheSchedule


@dataclass(frozen=True)
class Gate:
    """Where rows are told apart, and what they follow from there.

    Attributes:
        step: The last computed step that all rows share.
        limit: Rms forecast error at that step above which a row is hard.
        easy: Plan of the other rows.
        hard: Plan of hard rows. Both begin with the steps that are shared.
    """

    step: int
    limit: float
    easy: CacheSchedule
    hard: CacheSchedule

    def after(self, steps: int) -> Gate:
        """The same gate for a run that joins the schedule so many steps late."""
        return replace(
            self,
            step=self.step + steps,
            easy=self.easy.after(steps),
            hard=self.hard.after(steps),
        )

    def shares(self, hard: Sequence[bool]) -> tuple[ScheduledRows, ...]:
        """Which samples follow which plan.

        Args:
            hard: Per sample.
        """
        sides = ((self.easy, False), (self.hard, True))
        samples = [
            tuple(i for i, is_hard in enumerate(hard) if is_hard is side) for _, side in sides
        ]
        return tuple(
            ScheduledRows(found, plan)
            for (plan, _), found in zip(sides, samples, strict=True)
            if found
        )


GateMaker = Callable[[CacheSchedule, tuple[float, ...], tuple[float, ...]], Gate | None]
"""Makes the gate of a run from its plan, the times of its steps and the sampler's moves."""


def drift_gate(config: SenCacheConfig, drift: OutputDrift) -> GateMaker:
    """Gates as the settings say, from the drift of the model."""

    def make(
        plan: CacheSchedule, times: tuple[float, ...], moves: tuple[float, ...]
    ) -> Gate | None:
        computed = len(plan.computed)
        if not config.gate or computed == plan.steps:
            return None
        check_room(config.gate, computed, plan.steps)
        shared = plan.computed[:SHARED]
        if shared[-1] not in plan.checks:
            raise ValueError("the gate needs forecasts before it; this plan makes none so early")

        def other(count: int) -> CacheSchedule:
            return planned(
                drift.at(times),
                moves,
                count,
                order=config.order,
                repair=config.repair,
                prefix=shared,
            )

        expected = plan.checks[shared[-1]][1]
        return Gate(
            shared[-1],
            config.gate_ratio * expected,
            easy=other(computed - 1),
            hard=other(computed + config.gate),
        )

    return make


def check_room(gate: int, computed: int, steps: int) -> None:
    """Make sure that a budget leaves room for a gate.

    Args:
        gate: Steps that hard rows get more.
        computed: Steps that the budget computes.
        steps: Of the run.

    Raises:
        ValueError: Too few computed steps to tell rows apart, or too many to add to.
    """
    least, most = SHARED + 2, steps - gate
    if not least <= computed <= most:
        raise ValueError(
            f"SenCacheConfig.gate is {gate} but the budget computes {computed} of "
            f"{steps} steps; with this gate it can be {least} to {most}"
        )


def gate_ratio(stats: SampleStats) -> float:
    """How far off the forecast of a sample was at the gate, as a share of what was expected.

    Args:
        stats: Of a gated run.

    Raises:
        ValueError: The run has no gate, or its error was not measured there.
    """
    computed = [step for step, what in enumerate(stats.decisions) if what == "C"]
    at = computed[SHARED - 1] if len(computed) >= SHARED else None
    for refresh in stats.refreshes:
        if refresh.step == at and refresh.actual is not None and refresh.predicted:
            return refresh.actual / refresh.predicted
    raise ValueError("no forecast error was measured where a gate would be")
