"""From an arm and a wanted number of evaluations to the run that makes them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.benchmarks.quality.arms import (
    FEWER_STEPS,
    FEWER_STEPS_BEST,
    RIVALS,
    Setup,
    best_other_sampler,
)
from pipeline.benchmarks.quality.denoising import Batch, Run
from pipeline.benchmarks.quality.tuning import TOLERANCE, Knob
from sencache.rivals import Rival, Scheduled, Tunable, UnsupportedError


@dataclass(frozen=True)
class Point:
    """One arm at one wanted NFE.

    Attributes:
        arm: Name.
        wanted: NFE.
        run: What to do; None where the arm cannot.
        setting: The method, its variant and knob, for people.
        source: Where the method comes from.
        calibration_nfe: NFE on the calibration clips, of the arms that skip steps.
        problem: Why there is no run.
    """

    arm: str
    wanted: int
    run: Run | None
    setting: str = ""
    source: str = ""
    calibration_nfe: float | None = None
    problem: str = ""


@dataclass
class Tuner:
    """Finds the runs of arms at NFE points, on calibration clips alone.

    Attributes:
        setup: What methods are fitted with.
        sampler: That all arms but `fewer-steps-best` run under.
        batches: The calibration clips.
    """

    setup: Setup
    sampler: str
    batches: Sequence[Batch]
    _variants: dict[str, list[tuple[Rival, Knob | None]]] = field(default_factory=dict)

    def point(self, arm: str, wanted: int) -> Point:
        """An arm at an NFE; a point without a run where it is not supported."""
        try:
            return self._point(arm, wanted)
        except UnsupportedError as error:
            return Point(arm, wanted, None, problem=str(error))

    def _point(self, arm: str, wanted: int) -> Point:
        if arm == FEWER_STEPS:
            return Point(arm, wanted, Run(self.sampler, wanted), f"{wanted} steps")
        if arm == FEWER_STEPS_BEST:
            family = self.batches[0].bench.model.spec.family
            other = best_other_sampler(self.sampler, family)
            return Point(arm, wanted, Run(other, wanted), f"{wanted} steps of {other}")
        best: tuple[float, Rival, str, float] | None = None
        for number, (rival, knob) in enumerate(self._made(arm), 1):
            chosen, setting, nfe = self._chosen(rival, knob, wanted)
            setting += f", variant {number}" if number > 1 else ""
            miss = abs(nfe - wanted)
            if best is None or miss < best[0]:
                best = miss, chosen, setting, nfe
            if miss <= TOLERANCE:
                break
        if best is None:
            raise UnsupportedError(f"{arm} has no method here")
        _, chosen, setting, nfe = best
        run = Run(self.sampler, self.setup.steps, chosen)
        return Point(arm, wanted, run, setting, chosen.source, nfe)

    def _chosen(self, rival: Rival, knob: Knob | None, wanted: int) -> tuple[Rival, str, float]:
        if knob is not None and isinstance(rival, Tunable):
            value, nfe = knob.find(wanted)
            return rival.tuned(value), f"{rival.name}, knob {value:.4g}", nfe
        if isinstance(rival, Scheduled):
            budgeted = rival.budgeted(wanted, self.setup.steps)
            return budgeted, rival.name, self._nfe(budgeted, self.batches[:1])
        return rival, rival.name, self._nfe(rival)

    def _made(self, arm: str) -> list[tuple[Rival, Knob | None]]:
        if arm not in self._variants:
            self._variants[arm] = [
                (rival, self._knob(rival) if isinstance(rival, Tunable) else None)
                for rival in RIVALS[arm](self.setup)
            ]
        return self._variants[arm]

    def _knob(self, rival: Tunable) -> Knob:
        return Knob(lambda value: self._nfe(rival.tuned(value)), rival.low, rival.high)

    def _nfe(self, rival: Rival, batches: Sequence[Batch] = ()) -> float:
        """Mean NFE on calibration clips: on all, if none are given."""
        run = Run(self.sampler, self.setup.steps, rival)
        return statistics.fmean(
            n for batch in batches or self.batches for n in batch.denoise(run).nfe
        )
