"""`pipeline`: the speed of a whole run compared with its engine alone, and where the rest goes."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jobs.benchmarks.tables import table

if TYPE_CHECKING:
    from jobs.benchmarks.throughput.efficiency import BareEngines, WholePipeline
    from jobs.benchmarks.throughput.traced_engine import TracedCall

HELP = "clips/s of a whole run over clips/s of its engine alone; and its cost with a null engine"
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
    from jobs.benchmarks.throughput.null_engine import check_samples

    if options.samples:
        check_samples(options.samples)
    result: dict[str, Any] = {}
    if options.clips:
        result["efficiency"] = _efficiency(options, console)
    if options.samples:
        result["null_engine"] = _null_engine(options.samples, console)
    return result


def _efficiency(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from jobs.benchmarks.throughput.core_sets import choose_cores
    from jobs.benchmarks.throughput.efficiency import bare, check_clips, whole
    from pipeline.config.run_config import RunConfig
    from pipeline.models.registry import get_model

    batch_rows = get_model(options.model).batch_rows
    cores = choose_cores(options.device, options.cores)
    shared = cores.engine == cores.rest
    layouts = _layouts(len(cores.engine), shared=shared)
    check_clips(options.clips, batch_rows, layouts[-1].engines)
    with tempfile.TemporaryDirectory(prefix="efficiency-") as folder:
        prompts = Path(folder) / "prompts.txt"
        texts = (f"a red circle moving left, take {n}\n" for n in range(options.clips))
        prompts.write_text("".join(texts))

        def config(layout: CoreLayout) -> RunConfig:
            return RunConfig.model_validate(
                {
                    "prompts": str(prompts),
                    "output": str(Path(folder) / "out"),
                    "model": options.model,
                    "model_path": options.model_path,
                    "device": options.device,
                    "cache": {"quality": options.quality},
                    "sampling": {"num_inference_steps": options.steps},
                    "parallel": {"cpus_per_rank": max(1, layout.threads)},  # 0: on a GPU
                    "replicas": "auto" if shared else 1,
                    "contact_sheet": False,
                    "report": False,
                }
            )

        def alone(when: str) -> list[BareEngines]:
            return [
                bare(config(each), Path(folder) / f"{when}{each.engines}", cores, each.engines)
                for each in (layouts if when == "before" else layouts[::-1])
            ]

        before = alone("before")
        piped = whole(config(layouts[-1]), Path(folder) / "whole", cores)
        after = alone("after")[::-1]
    pairs = [LayoutAlone(*each) for each in zip(layouts, before, after, strict=True)]
    title = (
        f"{options.model}, {options.quality}, {options.clips} clips an arm, {batch_rows} per "
        f"engine call; {cores.text}"
    )
    headings = ("", "clips/s", *(f"of {each.layout}" for each in pairs), "CPU s per clip")
    arms = [
        (f"{each.layout}, before", each.before.clips_per_s, each.before.cpu_s) for each in pairs
    ]
    arms.append(
        (
            f"whole pipeline, {_count(piped.engines, 'group')}",
            piped.clips_per_s,
            piped.cpu_s_per_clip,
        )
    )
    arms += [(f"{each.layout}, after", each.after.clips_per_s, each.after.cpu_s) for each in pairs]
    rows = [
        (name, f"{rate:.3f}", *(f"{rate / each.clips_per_s:.3f}" for each in pairs), f"{spent:.2f}")
        for name, rate, spent in arms
    ]
    caption = (
        "From the end of each engine's first call; the pipeline's until its last row is stored. "
        "CPU seconds are of all processes, and hold on a machine that does other things too. "
        f"Start-up, not counted: {piped.intake_s:.1f} s intake, {piped.start_s:.1f} s from there "
        "to the first engine call (Ray, actor, model)."
    )
    console.print(table(title, headings, rows, caption))
    console.print(_where(piped, pairs[-1]))
    return {
        "ratio": {str(each.layout): piped.clips_per_s / each.clips_per_s for each in pairs},
        "cores": asdict(cores),
        "alone": [asdict(each) for each in pairs],
        "whole": asdict(piped),
    }


@dataclass(frozen=True)
class CoreLayout:
    """Engines side by side on the engines' cores.

    Attributes:
        engines: Number of engines.
        threads: Threads of each engine.
    """

    engines: int
    threads: int

    def __str__(self) -> str:
        if not self.threads:
            return "engine alone"
        return f"{_count(self.engines, 'engine')} x {_count(self.threads, 'thread')}"


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


def _layouts(cores: int, *, shared: bool) -> list[CoreLayout]:
    """Return the layouts to compare with: one engine on all cores, and the layout of the run."""
    one = CoreLayout(1, cores)
    return [one, CoreLayout(cores, 1)] if shared and cores > 1 else [one]


@dataclass(frozen=True)
class LayoutAlone:
    """A layout alone, before and after the whole pipeline."""

    layout: CoreLayout
    before: BareEngines
    after: BareEngines

    @property
    def clips_per_s(self) -> float:
        """Mean of before and after."""
        return (self.before.clips_per_s + self.after.clips_per_s) / 2


def _where(piped: WholePipeline, alone: LayoutAlone) -> Any:
    ours = _parts(piped.calls)
    theirs = _parts([*alone.before.calls, *alone.after.calls])
    idle = piped.window_s * (1 - piped.busy) * piped.engines / piped.clips
    rows = [(name, f"{theirs[name] * 1000:.1f}", f"{ours[name] * 1000:.1f}") for name in ours]
    rows.append(("engine idle, last rows included", "", f"{idle * 1000:.1f}"))
    beside = {"encode": piped.encode_s, "upload": piped.upload_s, "rows": piped.rows_s}
    rows += [(f"beside it: {name}", "", f"{spent * 1000:.1f}") for name, spent in beside.items()]
    rows += [
        (f"CPU of {kind}", "", f"{spent / piped.clips * 1000:.1f}")
        for kind, spent in sorted(piped.cpu_s.items(), key=lambda item: -item[1])
    ]
    caption = f"Engines were at work {piped.busy:.1%} of the time."
    headings = ("", str(alone.layout), "in the pipeline")
    return table("ms per clip and engine", headings, rows, caption)


def _parts(calls: Sequence[TracedCall]) -> dict[str, float]:
    """Return seconds per clip in the parts of engine calls, without the first call of each."""
    warm = [call for index, call in enumerate(calls) if call.engine in _engines(calls[:index])]
    clips = sum(call.clips for call in warm)
    text = sum(call.text_s for call in warm)
    decode = sum(call.decode_s for call in warm)
    denoise = sum(call.ended - call.began for call in warm) - text - decode
    return {"text": text / clips, "denoise": denoise / clips, "decode": decode / clips}


def _engines(calls: Sequence[TracedCall]) -> set[int]:
    return {call.engine for call in calls}


def _null_engine(samples: int, console: Console) -> list[dict[str, Any]]:
    from jobs.benchmarks.throughput.null_engine import pipeline_cost

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
