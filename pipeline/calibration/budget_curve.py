"""Measures the quality of planned caching at several budgets, on a few clips of the model.

This is the last step of a calibration and answers which budget to use with a new profile. Each clip
is made once without a cache and once per budget, from the same noise; the decoded frames are
compared. `jobs/benchmark.py quality` also compares other caching methods.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.engine.caching import cached
from pipeline.engine.noise import generator
from pipeline.models.call import sampling_arguments, text_arguments
from pipeline.models.samplers import make_scheduler
from pipeline.models.spec import ModelSpec
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.similarity import psnr
from pipeline.wording import called_as, counted
from sencache import SenCacheConfig, SensitivityProfile

BUDGETS = (0.66, 0.5, 0.42, 0.34, 0.26)
FIDELITY_DB = 40.0
"""From this PSNR to the uncached clip on, a difference is hard to see side by side."""


@dataclass(frozen=True)
class BudgetPoint:
    """Clips at one budget, compared with the same clips without a cache.

    Attributes:
        budget: Share of the steps that is computed.
        nfe: Computed steps.
        steps: Steps of the sampler.
        psnr: PSNR of each clip in dB; `pipeline.scoring.similarity.MAX_PSNR_DB` for equal frames.
    """

    budget: float
    nfe: int
    steps: int
    psnr: tuple[float, ...]

    @property
    def worst(self) -> float:
        """PSNR of the worst clip in dB."""
        return min(self.psnr)


def measure_curve(
    spec: ModelSpec,
    pipe: Any,
    template: SampleRequest,
    prompts: Sequence[str],
    seeds: Sequence[int],
    profile: SensitivityProfile,
    *,
    budgets: Sequence[float] = BUDGETS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[BudgetPoint]:
    """Make clips without a cache and at every budget, and compare them.

    Args:
        spec: The model.
        pipe: Its pipeline, without a cache.
        template: Sampling settings; its prompt and seed are not used.
        prompts: Captions, used in order and repeated if there are fewer than clips.
        seeds: One per clip, other than those that the profile was measured with.
        profile: The model's profile, with its drift.
        budgets: Budgets to try.
        progress: Called with the number of runs done and the number of all runs.

    Raises:
        UserError: The profile does not fit the pipeline.
    """
    requests = [
        dataclasses.replace(template, prompt=prompts[i % len(prompts)], seed=seed)
        for i, seed in enumerate(seeds)
    ]
    total, done = len(requests) * (1 + len(budgets)), 0
    errors: dict[float, list[float]] = {budget: [] for budget in budgets}
    computed: dict[float, int] = {}
    for request in requests:
        control = _frames(spec, pipe, request)
        progress(done := done + 1, total)
        for budget in budgets:
            config = SenCacheConfig(
                policy="planned",
                budget=budget,
                num_inference_steps=request.num_inference_steps,
                guidance=request.guidance_scale > 1.0,
            )
            with cached(pipe, config, profile) as handle:
                errors[budget].append(psnr(_frames(spec, pipe, request), control))
                computed[budget] = handle.stats()[0].nfe
            progress(done := done + 1, total)
    steps = template.num_inference_steps
    return [BudgetPoint(b, computed[b], steps, tuple(errors[b])) for b in budgets]


def recommended(points: Sequence[BudgetPoint]) -> BudgetPoint | None:
    """Return the cheapest point whose worst clip reaches `FIDELITY_DB`; None if none does."""
    faithful = [point for point in points if point.worst >= FIDELITY_DB]
    return min(faithful, key=lambda point: point.nfe, default=None)


def curve_text(points: Sequence[BudgetPoint]) -> str:
    """Return the curve and a recommendation as text."""
    clips = len(points[0].psnr)
    lines = [
        f"planned caching on {counted(clips, 'further clip')}, against the same clips without a "
        "cache",
        "budget     NFE   steps/NFE   PSNR dB mean   worst",
    ]
    lines += [
        f"{point.budget:6.2f}  {point.nfe:3d}/{point.steps:<3d} {point.steps / point.nfe:8.2f}x"
        f"  {statistics.fmean(point.psnr):13.1f}  {point.worst:6.1f}"
        for point in points
    ]
    best = recommended(points)
    if best is None:
        lines.append(f"no budget keeps {FIDELITY_DB:.0f} dB in the worst clip: run uncached, or")
        more = f"{called_as('benchmark')} quality measures more"
        lines.append(f"accept less and look at the clips ({more})")
    else:
        lines.append(
            f"recommended: --cache.budget {best.budget:g}, the least whose worst clip keeps "
            f"{FIDELITY_DB:.0f} dB"
        )
    return "\n".join(lines)


@torch.no_grad()
def _frames(spec: ModelSpec, pipe: Any, request: SampleRequest) -> torch.Tensor:
    """Make one clip; return its frames in 0..1, on the CPU."""
    pipe.scheduler = make_scheduler(
        request.sampler, spec.family, pipe.scheduler.config, request.sigmas
    )
    frames: torch.Tensor = pipe(
        **text_arguments(spec, [request]),
        **sampling_arguments(spec, request),
        generator=[generator(request.seed)],
        output_type="pt",
    ).frames
    return frames.detach().float().cpu()
