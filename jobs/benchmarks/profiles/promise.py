"""`promise`: the error that plans promise before a run, against the error that comes out.

Plans are made from the model's shipped profile, from the prior alone, and from the drift of a few
own clips: alone, or drawn towards the prior's. One of these clips is also made with a plan; this
probe corrects the scale of what is promised. Errors are of the final latents, relative to their
rms, over all clips.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jobs.benchmarks.quality.intervals import worst_decile
from jobs.benchmarks.tables import table
from pipeline.errors import UserError

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from jobs.benchmarks.profiles.plan_sources import Setting

HELP = "predicted against measured error of planned runs, by what the plan was made from"
RULE = "paper's rule"
KINDS = ("shipped", "prior", "alone", "blend")
"""What plans are made from: a shipped profile, the prior, own clips alone, own clips and prior."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model", default="demo")
    parser.add_argument("--model-path", default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompts", default="", help="captions; empty: the embedded model's own")
    parser.add_argument("--clips", type=int, default=16, help="clips to measure")
    parser.add_argument("--own", type=int, nargs="*", default=[2, 4, 8], help="own clips of a plan")
    parser.add_argument(
        "--from",
        dest="kinds",
        nargs="+",
        choices=KINDS,
        default=KINDS,
        help="what to make plans from",
    )
    parser.add_argument("--sampler", choices=("euler", "unipc", "both"), default="both")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 30, 50])
    parser.add_argument("--nfe", type=int, nargs="+", default=[25, 21, 17, 13, 10, 8])
    parser.add_argument(
        "--rule", type=int, default=0, help="also run the paper's rule at so many evaluations"
    )


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: Model or prompts cannot be used.
    """
    rows = []
    for setting in _settings(options):
        rows += _measure(setting, options, console)
    console.print(_table(options.model, rows))
    return {
        "model": options.model,
        "weights": "given" if options.model_path else "shipped",
        "clips": options.clips,
        "rows": rows,
        "summary": summary(rows),
    }


def _settings(options: argparse.Namespace) -> Iterator[Setting]:
    from jobs.benchmarks.profiles.bench import load_bench
    from jobs.benchmarks.profiles.plan_sources import Setting
    from jobs.benchmarks.quality.denoising import make_batches
    from jobs.benchmarks.quality.splits import CALIBRATION, HELD_OUT, captions_of, split_clips
    from pipeline.models.samplers import EULER, UNIPC

    bench = load_bench(options.model, options.model_path, options.device)
    rows, saved = bench.model.spec.batch_rows, dict(bench.pipe.scheduler.config)
    captions = [captions_of(options.model, options.prompts, s) for s in (HELD_OUT, CALIBRATION)]
    if min(options.clips, *options.own, 1) < 1:
        raise UserError("--clips and --own must be at least 1")
    measured = split_clips(captions[0], HELD_OUT, options.clips)
    own = split_clips(captions[1], CALIBRATION, max(options.own, default=1))
    batches = [make_batches(bench, clips, rows, saved) for clips in (measured, own, own[:1])]
    shift = bench.template.sampler.partition("/")[2]
    classes = {"euler": [EULER], "unipc": [UNIPC], "both": [EULER, UNIPC]}[options.sampler]
    for name in classes:
        for steps in options.steps:
            yield Setting(bench, f"{name}/{shift}" if shift else name, steps, *batches)


def _measure(
    setting: Setting, options: argparse.Namespace, console: Console
) -> list[dict[str, Any]]:
    """All plans of one setting."""
    from jobs.benchmarks.profiles.plan_errors import (
        cached_latents,
        per_clip_errors,
        plan_under,
        relative_error,
    )
    from jobs.benchmarks.profiles.plan_sources import paper_rule, plan_sources
    from jobs.benchmarks.quality.denoising import DenoisingRun
    from pipeline.scoring.similarity import psnr
    from sencache.schedules.levels import promised_error

    sampler, steps = setting.sampler, setting.steps
    run = DenoisingRun(sampler, steps)
    whole = [batch.denoise(run).latents for batch in setting.measured]
    frames = [batch.decode(each) for batch, each in zip(setting.measured, whole, strict=True)]

    def decibels(made: Sequence[torch.Tensor]) -> list[float]:
        return [
            psnr(clip, reference)
            for batch, latents, references in zip(setting.measured, made, frames, strict=True)
            for clip, reference in zip(batch.decode(latents), references, strict=True)
        ]

    rows = []
    kinds = set(options.kinds)
    if options.model != "demo" or options.model_path:
        kinds.discard("shipped")
    sources = plan_sources(setting, options.own, kinds)
    known: dict[str, list[torch.Tensor]] = {}  # profiles that differ in nothing else plan alike
    for source in sources:
        for nfe in (each for each in options.nfe if each < steps):
            plan = plan_under(setting.bench, source.profile, sampler, steps, nfe)
            key = repr((plan.computed, plan.forecasts))
            if key not in known:
                known[key] = cached_latents(setting.measured, sampler, steps, source.profile, nfe)
            made = known[key]
            row = {
                "sampler": sampler,
                "steps": steps,
                "from": source.name,
                "nfe": nfe,
                "promised": promised_error(plan, source.profile),
                "with_probe": source.probed and promised_error(plan, source.probed),
                "measured": relative_error(made, whole),
                "per_clip": per_clip_errors(made, whole),
            }
            rows.append(_rounded(row | _spread(decibels(made))))
            console.print(_told(rows[-1]))
    if options.rule and options.rule < steps:
        made, nfe = paper_rule(setting, sources[-1].profile, options.rule)
        row = {
            "sampler": sampler,
            "steps": steps,
            "from": RULE,
            "nfe": nfe,
            "measured": relative_error(made, whole),
        }
        rows.append(_rounded(row | _spread(decibels(made))))
        console.print(_told(rows[-1]))
    return rows


def _spread(decibels: Sequence[float]) -> dict[str, Any]:
    """PSNR: the mean, the mean of the lowest tenth, and every clip."""
    return {
        "psnr": statistics.fmean(decibels),
        "psnr_tenth": worst_decile(decibels),
        "psnr_per_clip": [round(each, 2) for each in decibels],
    }


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without the values of single clips."""
    return {name: value for name, value in row.items() if not name.endswith("per_clip")}


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per source: how far promises are off in the mean, and the mean quality.

    A promise that is twice or half of what came out is off by a factor of 2.
    """
    made = []
    for source in dict.fromkeys(row["from"] for row in rows):
        mine = [row for row in rows if row["from"] == source]
        off = {
            name: _factor([row[name] / row["measured"] for row in mine if row.get(name)])
            for name in ("promised", "with_probe")
        }
        psnr = statistics.fmean(row["psnr"] for row in mine)
        tenth = statistics.fmean(row["psnr_tenth"] for row in mine)
        made.append(_rounded({"from": source, **off, "psnr": psnr, "psnr_tenth": tenth}))
    return made


def _factor(ratios: Sequence[float]) -> float | None:
    """Geometric mean of the factors by which ratios are off 1."""
    if not ratios:
        return None
    return math.exp(statistics.fmean(abs(math.log(ratio)) for ratio in ratios))


def _table(model: str, rows: Sequence[dict[str, Any]]) -> Table:
    def shown(value: float | None, digits: str) -> str:
        return "" if value is None else f"{value:{digits}}"

    cells = [
        [
            f"{row['sampler'].partition('/')[0]} {row['steps']}, {row['from']}",
            f"{row['nfe']:g}",
            shown(row.get("promised"), ".2g"),
            shown(row.get("with_probe"), ".2g"),
            f"{row['measured']:.2g}",
            f"{row['psnr']:.1f} / {row['psnr_tenth']:.1f}",
        ]
        for row in rows
    ]
    headings = ["plan from", "NFE", "promised", "with probe", "measured", "PSNR mean / tenth"]
    return table(f"{model}: relative error of the final latents", headings, cells)
