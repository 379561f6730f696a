"""`worst-clips`: which clips come out worst under a plan, and what would have told.

Takes the PSNR of every held-out clip from the stored results of `quality`, and makes the same clips
again, by the same plans, to see what their first computed steps show.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pipeline.models.samplers import EULER, UNIPC

if TYPE_CHECKING:
    from jobs.benchmarks.quality.denoising import ClipBatch
    from sencache import SampleStats, SensitivityProfile

HELP = "which clips plans make worst, and whether their captions or first forecasts tell"
FORECASTS = 6
"""First forecasts of a clip that may tell."""
ROWS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--clips", type=int, default=64, help="held-out clips, at most 64")
    parser.add_argument("--nfe", type=int, nargs="+", default=[17, 13])
    parser.add_argument("--samplers", nargs="+", default=[f"{EULER}/3.0", f"{UNIPC}/3.0"])
    parser.add_argument("--cache-dir", default="out/quality-cache", help="keeps measured profiles")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: The stored results are of another model, or have no such point.
    """
    import dataclasses

    from jobs.benchmarks.low_end.telling import predictors
    from jobs.benchmarks.profiles.bench import load_bench
    from jobs.benchmarks.quality.denoising import make_batches
    from jobs.benchmarks.quality.profiles import profile_for
    from jobs.benchmarks.quality.splits import (
        CALIBRATION,
        HELD_OUT,
        demo_captions,
        prompts_hash,
        split_clips,
    )

    bench = load_bench("demo", "", "cpu")
    saved = dict(bench.pipe.scheduler.config)
    clips = split_clips(demo_captions(HELD_OUT), HELD_OUT, options.clips)
    captions = [clip.caption for clip in clips]
    calibration = demo_captions(CALIBRATION)[:8]
    result: dict[str, Any] = {
        "clips": options.clips,
        "prompts_hash": prompts_hash(clips),
        "samplers": {},
    }
    for sampler in options.samplers:
        template = dataclasses.replace(bench.template, sampler=sampler)
        own = dataclasses.replace(bench, template=template)
        folder = Path(options.cache_dir)
        profile = profile_for(own, sampler, calibration, folder, lambda *_: None)
        batches = make_batches(own, clips, ROWS, saved)
        points = {}
        for nfe in options.nfe:
            decibels = stored_psnr(sampler, nfe, bench.model.revision)[: options.clips]
            misses = [m for batch in batches for m in first_misses(batch, profile, nfe)]
            told = predictors(captions, misses, decibels)
            points[str(nfe)] = {"psnr": decibels, "misses": misses, "told": told}
            console.print(f"{sampler} at {nfe}")
            for name, found in told.items():
                console.print(f"  {name}: {found}")
        result["samplers"][sampler] = points
    return result


def stored_psnr(sampler: str, nfe: int, revision: str) -> list[float]:
    """PSNR of each held-out clip under a plan, from the stored results of `quality`.

    Raises:
        UserError: They are of another model, or have no such point.
    """
    import json

    from jobs.benchmarks.quality.document.benchmarks_md import KEPT
    from pipeline.errors import UserError

    result: Mapping[str, Any] = json.loads(KEPT.read_text())["result"]
    if result["revision"] != revision:
        raise UserError(f"{KEPT.name} is of weights {result['revision']}, not {revision}")
    for arm in result["samplers"].get(sampler, {}).get("arms", ()):
        if (arm["arm"], arm["wanted_nfe"]) == ("planned", nfe):
            values: list[float] = arm["per_clip"]["uncached"]["psnr"]
            return values
    raise UserError(f"{KEPT.name} has no planned run of {sampler} with {nfe} evaluations")


def first_misses(batch: ClipBatch, profile: SensitivityProfile, nfe: int) -> list[list[float]]:
    """Forecast error of each clip at its first computed steps, divided by the expected one."""
    import warnings

    from jobs.benchmarks.sampling.denoising_loop import Arm
    from pipeline.models.samplers import make_scheduler
    from sencache import ProfileWarning, SenCacheConfig, apply_sencache, remove_sencache

    request, pipe = batch.requests[0], batch.loop.pipe
    pipe.scheduler = make_scheduler(request.sampler, batch.bench.model.spec.family, batch.saved)
    steps = request.num_inference_steps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProfileWarning)
        handle = apply_sencache(pipe, SenCacheConfig(policy="planned", budget=nfe / steps), profile)
    try:
        batch.loop.run(Arm("planned"))
        stats: Sequence[SampleStats] = handle.stats()
    finally:
        remove_sencache(pipe)
    return [
        [
            float(f"{refresh.actual / refresh.predicted:.4g}")
            for refresh in sample.refreshes[:FORECASTS]
            if refresh.actual is not None and refresh.predicted
        ]
        for sample in stats
    ]
