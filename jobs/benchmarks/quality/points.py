"""Finds the run of an arm that makes a wanted number of network evaluations."""

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
    BASELINES,
    FEWER_STEPS,
    FEWER_STEPS_BEST,
    BaselineSetup,
    best_other_sampler,
)
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun
from jobs.benchmarks.quality.tuning import TOLERANCE, TunedParameter


@dataclass(frozen=True)
class OperatingPoint:
    """One arm at one wanted NFE.

    Attributes:
        arm: Name of the arm.
        wanted: Wanted NFE.
        run: The run; None if the arm is not supported.
        setting: The method, its variant and parameter, as text.
        source: Publication or implementation of the method.
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
    """A variant of a method, tuned for a point, and what it made of the first batches."""

    baseline: Baseline
    setting: str
    nfe: float
    latents: tuple[torch.Tensor, ...] = ()


@dataclass
class Tuner:
    """Finds the runs of arms at NFE points, on calibration clips only.

    Attributes:
        setup: What methods are fitted with.
        sampler: Sampler of all arms but `fewer-steps-best`.
        batches: The calibration clips.
    """

    setup: BaselineSetup
    sampler: str
    batches: Sequence[ClipBatch]
    _variants: dict[str, list[tuple[Baseline, TunedParameter | None]]] = field(default_factory=dict)
    _uncached: dict[int, torch.Tensor] = field(default_factory=dict)

    def point(self, arm: str, wanted: int) -> OperatingPoint:
        """Return an arm at an NFE; the point has no run if the arm is not supported."""
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
        for number, (baseline, parameter) in enumerate(self._made(arm), 1):
            found = self._chosen(baseline, parameter, wanted)
            named = f"{found.setting}, variant {number}" if number > 1 else found.setting
            tried.append(replace(found, setting=named))
        if not tried:
            raise UnsupportedError(f"{arm} has no method here")
        best = self._best(tried, wanted)
        run = DenoisingRun(self.sampler, self.setup.steps, best.baseline)
        return OperatingPoint(arm, wanted, run, best.setting, best.baseline.source, best.nfe)

    def _best(self, tried: Sequence[_Tried], wanted: int) -> _Tried:
        """Return the variant closest to the uncached latents, of those that hit the point.

        If none hits it, the choice is among those that miss it least. A baseline should be at its
        best, but a variant with more evaluations would be better for the wrong reason.
        """
        least = max(TOLERANCE, min(abs(each.nfe - wanted) for each in tried))
        close = [each for each in tried if abs(each.nfe - wanted) <= least]
        if len(close) == 1:
            return close[0]
        return min(close, key=self._distance)

    def _distance(self, tried: _Tried) -> float:
        """Return the mean log of the mean square distance to uncached latents, over clips."""
        run = DenoisingRun(self.sampler, self.setup.steps, tried.baseline)
        made = tried.latents
        logs: list[float] = []
        for number, batch in enumerate(self.batches):
            if number not in self._uncached:
                self._uncached[number] = batch.denoise(replace(run, baseline=None)).latents
            latents = made[number] if number < len(made) else batch.denoise(run).latents
            off = (latents - self._uncached[number]).double()
            squares = off.flatten(1).square().mean(1).clamp_min(1e-20)
            logs += squares.log().tolist()
        return statistics.fmean(logs)

    def _chosen(self, baseline: Baseline, parameter: TunedParameter | None, wanted: int) -> _Tried:
        if parameter is not None and isinstance(baseline, Tunable):
            value, nfe = parameter.find(wanted)
            return _Tried(baseline.tuned(value), f"{baseline.name}, parameter {value:.4g}", nfe)
        if isinstance(baseline, Scheduled):
            self._check_not_random(baseline)
            baseline = baseline.budgeted(wanted, self.setup.steps)
            run = self.batches[0].denoise(DenoisingRun(self.sampler, self.setup.steps, baseline))
            return _Tried(baseline, baseline.name, statistics.fmean(run.nfe), (run.latents,))
        return _Tried(baseline, baseline.name, self._nfe(baseline))

    def _check_not_random(self, baseline: Baseline) -> None:
        """Refuse a schedule under a sampler that draws noise at every step.

        What an output does to the finished clip cannot be told there.
        """
        family, sampler = self.batches[0].bench.model.spec.family, self.sampler.partition("/")[0]
        if sampler in family.random_samplers:
            raise UnsupportedError(f"{sampler} is random: no schedule of {baseline.name}")

    def _made(self, arm: str) -> list[tuple[Baseline, TunedParameter | None]]:
        if arm not in self._variants:
            self._variants[arm] = [
                (baseline, self._parameter(baseline) if isinstance(baseline, Tunable) else None)
                for baseline in BASELINES[arm](self.setup)
            ]
        return self._variants[arm]

    def _parameter(self, baseline: Tunable) -> TunedParameter:
        return TunedParameter(
            lambda value: self._nfe(baseline.tuned(value)), baseline.low, baseline.high
        )

    def _nfe(self, baseline: Baseline) -> float:
        """Return the mean NFE on all calibration clips."""
        run = DenoisingRun(self.sampler, self.setup.steps, baseline)
        return statistics.fmean(n for batch in self.batches for n in batch.denoise(run).nfe)
