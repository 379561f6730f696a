"""`pipeline`: how much of the engine's own speed a whole run keeps, and what the rest goes to."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pipeline.benchmarks.report import table

if TYPE_CHECKING:
    from pipeline.benchmarks.efficiency import Bare, Whole
    from pipeline.benchmarks.traced_engine import Call

HELP = "clips/s of a whole run over clips/s of its engine alone; and its cost with a null engine"
HEADINGS = ("", "clips/s", "of engine alone", "CPU s per clip", "engine's share")
LAYOUTS = ((1, 1), (1, 16), (16, 1))
"""Samples per engine call, and engine calls per Ray task."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model", default="demo")
    parser.add_argument("--model-path", default="", help="local folder or s3:// mirror")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--cores",
        choices=("apart", "shared"),
        default="apart",
        help="whether a run's other processes keep off the cores of an engine on CPUs",
    )
    parser.add_argument("--clips", type=int, default=48, help="clips of each arm; 0 leaves it out")
    parser.add_argument("--quality", default="lossless", help="as --cache.quality of a run")
    parser.add_argument("--steps", type=int, help="sampler steps; the model's own if left out")
    parser.add_argument(
        "--samples", type=int, default=2000, help="samples with the null engine; 0 leaves it out"
    )


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return both parts.

    Raises:
        UserError: Too few clips or samples.
    """
    from pipeline.benchmarks.null_engine import check_samples

    if options.samples:
        check_samples(options.samples)
    result: dict[str, Any] = {}
    if options.clips:
        result["efficiency"] = _efficiency(options, console)
    if options.samples:
        result["null_engine"] = _null_engine(options.samples, console)
    return result


def _efficiency(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from pipeline.benchmarks.core_sets import choose_cores
    from pipeline.benchmarks.efficiency import bare, check_clips, whole
    from pipeline.config import RunConfig
    from pipeline.models.registry import get_model

    batch_rows = get_model(options.model).batch_rows
    check_clips(options.clips, batch_rows)
    cores = choose_cores(options.device, options.cores)
    with tempfile.TemporaryDirectory(prefix="efficiency-") as folder:
        prompts = Path(folder) / "prompts.txt"
        texts = (f"a red circle moving left, take {n}\n" for n in range(options.clips))
        prompts.write_text("".join(texts))
        config = RunConfig.model_validate(
            {
                "prompts": str(prompts),
                "output": str(Path(folder) / "out"),
                "model": options.model,
                "model_path": options.model_path,
                "device": options.device,
                "cache": {"quality": options.quality},
                "sampling": {"num_inference_steps": options.steps},
                "replicas": 1,
                "contact_sheet": False,
                "report": False,
            }
        )
        before = bare(config, Path(folder) / "before", cores)
        piped = whole(config, Path(folder) / "whole", cores)
        after = bare(config, Path(folder) / "after", cores)
    alone = (before.clips_per_s + after.clips_per_s) / 2
    title = (
        f"{options.model}, {options.quality}, {options.clips} clips an arm, {batch_rows} per "
        f"engine call; {cores.text}"
    )
    cpu_s = (before.cpu_s + after.cpu_s) / 2
    rows = [
        (name, f"{rate:.3f}", f"{rate / alone:.3f}", f"{spent:.2f}", f"{cpu_s / spent:.3f}")
        for name, rate, spent in (
            ("engine alone, before", before.clips_per_s, before.cpu_s),
            ("whole pipeline", piped.clips_per_s, piped.cpu_s_per_clip),
            ("engine alone, after", after.clips_per_s, after.cpu_s),
        )
    ]
    caption = (
        "From the end of the first engine call; the pipeline's until its last row is stored. "
        "CPU seconds are of all processes, and hold on a machine that does other things too. "
        f"Start-up, not counted: {piped.intake_s:.1f} s intake, {piped.start_s:.1f} s from there "
        "to the first engine call (Ray, actor, model)."
    )
    console.print(table(title, HEADINGS, rows, caption))
    console.print(_where(piped, (before, after)))
    return {
        "ratio": piped.clips_per_s / alone,
        "cpu_ratio": cpu_s / piped.cpu_s_per_clip,
        "cores": asdict(cores),
        "before": asdict(before),
        "whole": asdict(piped) | {"busy": piped.busy},
        "after": asdict(after),
    }


def _where(piped: Whole, alone: Sequence[Bare]) -> Any:
    ours = _parts(piped.calls[1:])
    theirs = _parts([call for each in alone for call in each.calls[1:]])
    idle = piped.window_s * (1 - piped.busy) / piped.clips
    rows = [(name, f"{theirs[name] * 1000:.1f}", f"{ours[name] * 1000:.1f}") for name in ours]
    rows.append(("engine idle, last rows included", "", f"{idle * 1000:.1f}"))
    beside = {"encode": piped.encode_s, "upload": piped.upload_s, "rows": piped.rows_s}
    rows += [(f"beside it: {name}", "", f"{spent * 1000:.1f}") for name, spent in beside.items()]
    rows += [
        (f"CPU of {kind}", "", f"{spent / piped.clips * 1000:.1f}")
        for kind, spent in sorted(piped.cpu_s.items(), key=lambda item: -item[1])
    ]
    caption = f"The engine was at work {piped.busy:.1%} of the time."
    return table("ms per clip", ("", "engine alone", "in the pipeline"), rows, caption)


def _parts(calls: Sequence[Call]) -> dict[str, float]:
    """Seconds per clip in the parts of engine calls."""
    clips = sum(call.clips for call in calls)
    text = sum(call.text_s for call in calls)
    decode = sum(call.decode_s for call in calls)
    denoise = sum(call.ended - call.began for call in calls) - text - decode
    return {"text": text / clips, "denoise": denoise / clips, "decode": decode / clips}


def _null_engine(samples: int, console: Console) -> list[dict[str, Any]]:
    from pipeline.benchmarks.null_engine import pipeline_cost

    results = [pipeline_cost(samples, *layout) for layout in LAYOUTS]
    rows = [
        (
            f"{r.batch_rows}",
            f"{r.batch_rows * r.batches_per_task}",
            f"{r.total_s:.1f}",
            f"{r.start_s:.1f}",
            f"{r.ms_per_sample:.2f}",
        )
        for r in results
    ]
    headings = ("samples per engine call", "per Ray task", "run s", "start s", "ms per sample")
    title = f"pipeline cost beyond the engine, {samples} samples"
    console.print(table(title, headings, rows))
    return [asdict(r) | {"ms_per_sample": r.ms_per_sample} for r in results]
