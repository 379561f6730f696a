"""Arms into runs: tuned on calibration clips, laid out by budget, or said to be absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from jobs.benchmarks.baselines import (
    Baseline,
    Decisions,
    Scheduled,
    Tunable,
    UnsupportedError,
)
from jobs.benchmarks.quality import points
from jobs.benchmarks.quality.arms import (
    ARMS,
    BASELINES,
    FEWER_STEPS,
    FEWER_STEPS_BEST,
    QUICK_ARMS,
    BaselineSetup,
    best_other_sampler,
)
from jobs.benchmarks.quality.denoising import DenoisingRun
from jobs.benchmarks.quality.points import Tuner
from jobs.benchmarks.sampling.denoising_loop import LoopRun
from pipeline.models.families.cogvideox import COGVIDEOX, DDIM
from pipeline.models.families.wan import WAN

EULER = "FlowMatchEulerDiscreteScheduler/3.0"
UNIPC = "UniPCMultistepScheduler/3.0"


class Toy(Baseline):
    source = "a toy"
    nfe = 50

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        yield lambda: ["C" * self.nfe]


@dataclass
class Turned(Toy, Tunable):
    floor: int
    nfe: int = 50
    off: float = 0.0
    name = "turned"
    low, high = 0.01, 10.0

    def tuned(self, parameter: float) -> Baseline:
        return Turned(self.floor, max(self.floor, round(50 / (1 + parameter))), self.off)


@dataclass
class Laid(Toy, Scheduled):
    nfe: int = 0
    off: float = 0.0
    name = "laid"

    def budgeted(self, computed: int, steps: int) -> Baseline:
        if computed == 13:
            raise UnsupportedError("no schedule of 13")
        return Laid(computed, self.off)


class CountingBatch:
    """Stands in for a batch of one clip: a run makes as many evaluations as its baseline says."""

    def __init__(self) -> None:
        self.runs: list[DenoisingRun] = []
        self.bench = type("B", (), {"model": type("M", (), {"spec": type("S", (), {})})})
        self.bench.model.spec.family = WAN  # type: ignore[attr-defined]

    def denoise(self, run: DenoisingRun) -> LoopRun:
        self.runs.append(run)
        if run.baseline is None:
            return LoopRun(1.0, ["C" * 50], torch.zeros(1, 4))
        with run.baseline.applied(None) as decisions:
            return LoopRun(1.0, decisions(), torch.full((1, 4), getattr(run.baseline, "off", 0.0)))


@pytest.fixture
def tuner(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tuner]:
    def make(*baselines: Baseline) -> Tuner:
        monkeypatch.setitem(BASELINES, "toy", lambda setup: baselines)
        setup = BaselineSetup(None, None, 50, lambda: None)
        return Tuner(setup, EULER, [CountingBatch()])  # type: ignore[list-item]

    return make


def test_steps_are_runs_of_either_sampler(tuner: Callable[..., Tuner]) -> None:
    made = tuner()
    assert made.point(FEWER_STEPS, 21).run == DenoisingRun(EULER, 21)
    assert made.point(FEWER_STEPS_BEST, 21).run == DenoisingRun(UNIPC, 21)
    assert best_other_sampler(UNIPC, WAN) == EULER
    with pytest.raises(UnsupportedError, match="no other sampler"):
        best_other_sampler(DDIM, COGVIDEOX)


def test_a_knob_is_turned_until_the_point_is_hit(tuner: Callable[..., Tuner]) -> None:
    made = tuner(Turned(5))
    point = made.point("toy", 21)
    assert point.calibration_nfe == 21
    assert point.run is not None
    assert (point.run.sampler, point.run.steps) == (EULER, 50)
    assert isinstance(point.run.baseline, Turned)
    assert point.run.baseline.nfe == 21
    assert "parameter" in point.setting


def test_a_variant_that_reaches_further_is_taken_where_it_is_needed(
    tuner: Callable[..., Tuner],
) -> None:
    made = tuner(Turned(20, off=0.1), Turned(5, off=0.2), Turned(1, off=0.3))
    near, far = (made.point("toy", wanted) for wanted in (25, 13))
    assert [point.run.baseline.floor for point in (near, far)] == [20, 5]  # type: ignore[union-attr]
    assert "variant" not in near.setting
    assert far.setting.endswith("variant 2")


def test_of_variants_that_hit_the_best_on_calibration_clips_is_taken(
    tuner: Callable[..., Tuner],
) -> None:
    point = tuner(Turned(20, off=0.3), Turned(5, off=0.1), Turned(1, off=0.2)).point("toy", 25)
    assert point.run.baseline.floor == 5  # type: ignore[union-attr]
    assert point.setting.endswith("variant 2")


def test_the_nearest_that_can_be_had_is_taken_and_told(tuner: Callable[..., Tuner]) -> None:
    point = tuner(Turned(20)).point("toy", 13)
    assert point.calibration_nfe == 20
    assert not point.problem


def test_a_schedule_is_laid_out_for_the_point(tuner: Callable[..., Tuner]) -> None:
    made = tuner(Laid())
    assert made.point("toy", 17).calibration_nfe == 17
    absent = made.point("toy", 13)
    assert absent.run is None
    assert absent.problem == "no schedule of 13"


def test_of_schedules_the_nearest_is_taken_and_each_is_run_once(
    tuner: Callable[..., Tuner],
) -> None:
    made = tuner(Laid(off=0.2), Laid(off=0.1))
    point = made.point("toy", 17)
    assert point.setting == "laid, variant 2"
    (batch,) = made.batches
    runs = [run.baseline for run in batch.runs]  # type: ignore[attr-defined]
    assert runs == [Laid(17, 0.2), Laid(17, 0.1), None]


def test_a_method_without_a_knob_is_measured_as_it_is(tuner: Callable[..., Tuner]) -> None:
    class Fixed(Toy):
        name = "fixed"
        nfe = 30

    point = tuner(Fixed()).point("toy", 17)
    assert point.calibration_nfe == 30


def test_arms_without_their_signal_or_profile_are_said_to_be_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(setup: BaselineSetup) -> list[Baseline]:
        raise UnsupportedError("no such block")

    monkeypatch.setitem(BASELINES, "missing", refuse)
    setup = BaselineSetup(None, None, 50, lambda: None)
    made = points.Tuner(setup, EULER, [])
    assert "no such block" in made.point("missing", 21).problem
    assert "profile" in made.point("sencache-paper", 21).problem
    assert set(QUICK_ARMS) <= set(ARMS)
