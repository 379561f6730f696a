"""Plans with fewer unconditional evaluations: their numbers, and a loop that is the pipeline's."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from jobs.benchmarks.baselines.own import Planned
from jobs.benchmarks.late_guidance.branch_plans import KINDS, BranchPlan, BranchPlanner
from jobs.benchmarks.late_guidance.document import BEGIN, END, KEPT, section
from jobs.benchmarks.late_guidance.guided_loop import BranchRecorder, run_guided
from jobs.benchmarks.profiles.bench import load_bench
from jobs.benchmarks.quality.denoising import ClipBatch, DenoisingRun, make_batches
from jobs.benchmarks.quality.document.benchmarks_md import DOCUMENT
from jobs.benchmarks.quality.splits import ClipSpec
from pipeline.models.demo import WEIGHTS_DIR
from pipeline.models.samplers import make_scheduler
from sencache import SensitivityProfile
from sencache.extension import CacheSchedule, step_moves
from sencache.schedules.drift import OutputDrift
from sencache.schedules.planner import schedule_of

STEPS = 12
TIMES = tuple(np.linspace(1.0, 0.05, STEPS).tolist())
MOVES = tuple([-1 / STEPS] * STEPS)
EULER, UNIPC = "FlowMatchEulerDiscreteScheduler/3.0", "UniPCMultistepScheduler/3.0"


def drift(bend: float) -> OutputDrift:
    """Of outputs on a curve; no bend is a straight line, which a linear forecast meets."""
    times = np.array(TIMES)
    path = np.stack([times, bend * times**3], axis=1)
    return OutputDrift.of_outputs(TIMES, ((path[:, None] - path[None]) ** 2).mean(-1))


def test_the_evaluations_of_both_branches_are_the_budget() -> None:
    planner = BranchPlanner(drift(2.0), drift(1.0), MOVES, 4.0)
    for kind in KINDS:
        for computed in planner.choices(kind, 14):
            plan = planner.plan(kind, 14, computed)
            assert plan.evaluations == 14
            assert len(plan.outputs.computed) == computed
    with pytest.raises(ValueError, match="no plan"):
        planner.plan("joint", 14, 6)


def test_guidance_that_is_easy_to_forecast_gets_fewer_evaluations() -> None:
    easy = BranchPlanner(drift(2.0), drift(0.0), MOVES, 4.0).best_predicted(14)
    hard = BranchPlanner(drift(2.0), drift(2.0), MOVES, 4.0).best_predicted(14)
    assert len(easy.guidance.computed) < 7 < len(easy.outputs.computed)
    assert len(hard.guidance.computed) == len(hard.outputs.computed) == 7
    assert easy.guidance.error == pytest.approx(0.0, abs=1e-4)


@pytest.fixture(scope="module")
def batch() -> ClipBatch:
    bench = load_bench("demo", "", "cpu")
    clips = [ClipSpec("a red circle moving left", 1), ClipSpec("a blue square", 2)]
    (made,) = make_batches(bench, clips, 2, dict(bench.pipe.scheduler.config))
    return made


@pytest.mark.parametrize("sampler", [EULER, pytest.param(UNIPC, marks=pytest.mark.variant)])
@pytest.mark.filterwarnings("ignore::sencache.ProfileWarning")
def test_the_loop_is_that_of_the_pipeline(batch: ClipBatch, sampler: str) -> None:
    recorder = BranchRecorder(4.0)
    made = run_guided(batch, sampler, 6, None, recorder)
    assert made.evaluations == 12
    assert torch.equal(made.latents, batch.denoise(DenoisingRun(sampler, 6)).latents)
    assert len(recorder.difference.taus()) == 6
    assert recorder.outputs.distances()[0, 5] > 0
    profile = SensitivityProfile.from_json((WEIGHTS_DIR.parent / "profile.json").read_text())
    method = Planned(profile).budgeted(4, 6)
    wanted = batch.denoise(DenoisingRun(sampler, 6, method))
    computed = tuple(step for step, made in enumerate(wanted.decisions[0]) if made == "C")
    assert profile.drift is not None
    outputs = profile.drift.at(recorder.outputs.taus())
    scheduler = make_scheduler(sampler, batch.bench.model.spec.family, batch.saved)
    scheduler.set_timesteps(6)
    planner = BranchPlanner(outputs, outputs, step_moves(scheduler), 4.0)
    plan = planner.plan("planned", 8, 4)
    assert plan.outputs.computed == computed
    found = run_guided(batch, sampler, 6, plan)
    assert found.evaluations == 8
    assert torch.allclose(found.latents, wanted.latents, atol=1e-3)


def test_guidance_that_is_off_leaves_the_conditional_output(batch: ClipBatch) -> None:
    whole = schedule_of(drift(1.0), MOVES, tuple(range(STEPS)))
    never = CacheSchedule(STEPS, (), {}, 0.0)
    made = run_guided(batch, EULER, STEPS, BranchPlan(whole, never, off=True))
    assert made.evaluations == STEPS
    settings = {**batch.loop.settings, "guidance_scale": 1.0}
    loop = dataclasses.replace(batch.loop, settings=settings)
    alone = dataclasses.replace(batch, loop=loop).denoise(DenoisingRun(EULER, STEPS))
    assert torch.equal(made.latents, alone.latents)


def test_the_document_shows_what_is_stored() -> None:
    written = json.loads(KEPT.read_text())
    shown = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown == f"\n{section(written)}\n"
    assert all("/work" not in each["conditions"]["command"] for each in written)
