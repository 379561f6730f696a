"""The gate of a planned run: hard rows continue with a cache schedule of more computed steps.

Some clips drift several times faster than the profile's mean, and this shows early: where the first
forecasts of a row have a larger error than expected, its later ones do too. So all rows share the
first computed steps. At the last of these the forecast error of each row, which a computed step
shows at no cost, decides which of two schedules the row follows. Hard rows get `gate` evaluations
more than the budget and every other row one less: where one row in `gate + 1` is hard, the mean is
the budget. Where a late gate leaves fewer steps than that, hard rows compute all of them; where
it leaves so many that forecasts cannot span them, the other rows compute as many as the budget. A
row's schedule depends on this row alone, so a sample is the same in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sencache.config import SenCacheConfig
from sencache.schedules.budget import SHARED, check_room, least_computed
from sencache.schedules.planner import CacheSchedule, make_schedule

if TYPE_CHECKING:
    from sencache.profiles.profile import SensitivityProfile
    from sencache.stats import SampleStats


@dataclass(frozen=True)
class ScheduledRows:
    """Samples of a batch that follow one cache schedule.

    Attributes:
        samples: Their indices in the batch, rising.
        schedule: What they follow.
    """

    samples: tuple[int, ...]
    schedule: CacheSchedule


@dataclass(frozen=True)
class Gate:
    """Where easy and hard rows part, and what they follow from there.

    Attributes:
        step: The last computed step that all rows share.
        limit: Rms forecast error at that step above which a row is hard.
        easy: Cache schedule of the other rows.
        hard: Cache schedule of hard rows. Both begin with the shared steps.
    """

    step: int
    limit: float
    easy: CacheSchedule
    hard: CacheSchedule

    def after(self, steps: int) -> Gate:
        """The same gate for a run that skips the first `steps` steps of the sampler."""
        return replace(
            self,
            step=self.step + steps,
            easy=self.easy.after(steps),
            hard=self.hard.after(steps),
        )

    def split(self, hard: Sequence[bool]) -> tuple[ScheduledRows, ...]:
        """Which samples follow which schedule; easy ones first.

        Args:
            hard: Per sample, whether it is hard.
        """
        sides = [
            ScheduledRows(tuple(i for i, each in enumerate(hard) if each is side), schedule)
            for schedule, side in ((self.easy, False), (self.hard, True))
        ]
        return tuple(side for side in sides if side.samples)


GateMaker = Callable[[CacheSchedule, tuple[float, ...], tuple[float, ...]], Gate | None]
"""Makes the gate of a run from its cache schedule, its steps' times and the sampler's moves."""


def profile_gate(config: SenCacheConfig, profile: SensitivityProfile) -> GateMaker:
    """A maker of gates by the settings, from the profile of the model."""

    def make(
        schedule: CacheSchedule, times: tuple[float, ...], moves: tuple[float, ...]
    ) -> Gate | None:
        computed = len(schedule.computed)
        if not config.gate or computed == schedule.steps or profile.drift is None:
            return None
        drift = profile.drift.at(times)
        check_room(config.gate, computed, schedule.steps)
        shared = schedule.computed[:SHARED]
        after = schedule.steps - 1 - shared[-1]
        # Steps that a plan must compute after the gate, because no gap may be longer.
        needed = least_computed(after + 1) - 1
        if shared[-1] not in schedule.checks:
            raise ValueError("the gate needs forecasts before it; this plan makes none so early")

        def other(count: int) -> CacheSchedule:
            return make_schedule(
                drift,
                moves,
                count,
                order=config.order,
                repair=config.repair,
                prefix=shared,
            )

        expected = schedule.checks[shared[-1]][1]
        return Gate(
            shared[-1],
            config.gate_ratio * expected,
            easy=other(max(computed - 1, SHARED + needed)),
            hard=other(min(computed + config.gate, SHARED + after)),
        )

    return make


def gate_ratio(stats: SampleStats) -> float:
    """Forecast error of a sample at the gate, divided by the expected one.

    Args:
        stats: Of a run with a gate.

    Raises:
        ValueError: The run has no gate, or its error was not measured there.
    """
    computed = [step for step, what in enumerate(stats.decisions) if what == "C"]
    at = computed[SHARED - 1] if len(computed) >= SHARED else None
    for refresh in stats.refreshes:
        if refresh.step == at and refresh.actual is not None and refresh.predicted:
            return refresh.actual / refresh.predicted
    raise ValueError("no forecast error was measured where a gate would be")
