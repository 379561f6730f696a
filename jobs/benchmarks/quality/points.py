"""From an arm and a wanted number of evaluations to the run that makes them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from jobs.benchmarks.baselines import (
    Baseline,
    Scheduled,
    Tunable,
    UnsupportedError,
)
from jobs.benchmarks.quality.arms import (
    FEWER_STEPS,
    FEWER_STEPS_BEST,
    RIVALS,
    Setup,
    best_other_sampler,
)
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun
from jobs.benchmarks.quality.tuning import TOLERANCE, TunedParameter


@dataclass(frozen=True)
class OperatingPoint:
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
    run: DenoisingRun | None
    setting: str = ""
    source: str = ""
    calibration_nfe: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class _Tried:
    """A variant of a method, set for a point."""

    rival: Baseline
    setting: str
    nfe: float


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
    batches: Sequence[ClipBatch]
    _variants: dict[str, list[tuple[Baseline, TunedParameter | None]]] = field(default_factory=dict)
    _uncached: dict[int, torch.Tensor] = field(default_factory=dict)

    def point(self, arm: str, wanted: int) -> OperatingPoint:
        """An arm at an NFE; a point without a run where it is not supported."""
        try:
            return self._point(arm, wanted)
        except UnsupportedError as error:
            return OperatingPoint(arm, wanted, None, problem=str(error))

    def _point(self, arm: str, wanted: int) -> OperatingPoint:
        if arm == FEWER_STEPS:
            return OperatingPoint(
                arm, wanted, DenoisingRun(self.sampler, wanted), f"{wanted} steps"
            )
        if arm == FEWER_STEPS_BEST:
            family = self.batches[0].bench.model.spec.family
            other = best_other_sampler(self.sampler, family)
            return OperatingPoint(
                arm, wanted, DenoisingRun(other, wanted), f"{wanted} steps of {other}"
            )
        tried = []
        for number, (rival, knob) in enumerate(self._made(arm), 1):
            found = self._chosen(rival, knob, wanted)
            named = f"{found.setting}, variant {number}" if number > 1 else found.setting
            tried.append(replace(found, setting=named))
        if not tried:
            raise UnsupportedError(f"{arm} has no method here")
        best = self._best(tried, wanted)
        run = DenoisingRun(self.sampler, self.setup.steps, best.rival)
        return OperatingPoint(arm, wanted, run, best.setting, best.rival.source, best.nfe)

    def _best(self, tried: Sequence[_Tried], wanted: int) -> _Tried:
        """Of the variants that hit the point the one nearest to the uncached latents.

        Where none hits it, one of those that miss it least: a rival must be at its best, but one
        of more evaluations would be better for the wrong reason.
        """
        least = max(TOLERANCE, min(abs(each.nfe - wanted) for each in tried))
        close = [each for each in tried if abs(each.nfe - wanted) <= least]
        if len(close) == 1:
            return close[0]
        return min(close, key=lambda each: self._distance(each.rival))

    def _distance(self, rival: Baseline) -> float:
        """Mean logarithm over calibration clips of the mean square distance to uncached latents."""
        run = DenoisingRun(self.sampler, self.setup.steps, rival)
        logs: list[float] = []
        for number, batch in enumerate(self.batches):
            if number not in self._uncached:
                self._uncached[number] = batch.denoise(replace(run, rival=None)).latents
            off = (batch.denoise(run).latents - self._uncached[number]).double()
            squares = off.flatten(1).square().mean(1).clamp_min(1e-20)
            logs += squares.log().tolist()
        return statistics.fmean(logs)

    def _chosen(self, rival: Baseline, knob: TunedParameter | None, wanted: int) -> _Tried:
        if knob is not None and isinstance(rival, Tunable):
            value, nfe = knob.find(wanted)
            return _Tried(rival.tuned(value), f"{rival.name}, knob {value:.4g}", nfe)
        if isinstance(rival, Scheduled):
            rival = rival.budgeted(wanted, self.setup.steps)
            return _Tried(rival, rival.name, self._nfe(rival, self.batches[:1]))
        return _Tried(rival, rival.name, self._nfe(rival))

    def _made(self, arm: str) -> list[tuple[Baseline, TunedParameter | None]]:
        if arm not in self._variants:
            self._variants[arm] = [
                (rival, self._knob(rival) if isinstance(rival, Tunable) else None)
                for rival in RIVALS[arm](self.setup)
            ]
        return self._variants[arm]

    def _knob(self, rival: Tunable) -> TunedParameter:
        return TunedParameter(lambda value: self._nfe(rival.tuned(value)), rival.low, rival.high)

    def _nfe(self, rival: Baseline, batches: Sequence[ClipBatch] = ()) -> float:
        """Mean NFE on calibration clips: on all, if none are given."""
        run = DenoisingRun(self.sampler, self.setup.steps, rival)
        return statistics.fmean(
            n for batch in batches or self.batches for n in batch.denoise(run).nfe
        )
