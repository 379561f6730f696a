"""`simulate`: a run on a large fleet, from measured and assumed figures.

Every input figure is printed with its source, and the results are no better than these figures.
They show proportions: which part saturates first, and at what size.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from jobs.benchmarks.tables import table
from pipeline.errors import UserError

HELP = "throughput, waste, load and cost of a large run, by discrete-event simulation"

POLICIES = {"none": (50, 0.0), "paper": (25, 1.0), "planned": (17, 0.0)}
"""Evaluations per clip of 50 steps, mean and standard deviation: `paper` as at its 25-evaluation
point on the embedded model (mean 25.0, 95th percentile 26; BENCHMARKS.md), `planned` by plan."""

SIZES = (125, 250, 500, 1000, 2000, 4000)
"""Numbers of GPUs in the sweep."""

SWEEP_SAMPLES_PER_GPU = 50


@dataclass(frozen=True, slots=True)
class Figure:
    """An input figure of the simulation.

    Attributes:
        value: The value, in the unit of its name.
        source: Where it was measured, or why it is assumed.
    """

    value: float
    source: str


FIGURES = {
    "driver ms per Ray task": Figure(
        15.0, "measured: BENCHMARKS.md, `benchmark.py pipeline`, 2 cores shared with the actor"
    ),
    "driver ms per sample": Figure(
        5.0, "measured: the same, and it holds the group's own encoding and storing: too high"
    ),
    "ledger ms per sample": Figure(
        1.0, "stated: two calls of a Ray actor, one waited for, at 0.5 ms"
    ),
    "store requests per sample": Figure(
        1.01,
        "counted: one PUT per clip, one part per 100 rows; none of the ledger while no one dies",
    ),
    "store requests per s": Figure(3500, "stated: PUT rate of one partition of S3, by its manual"),
    "driver bytes per sample": Figure(
        1200, "measured: a request of 160 characters is 572 bytes, in the driver and in Ray's store"
    ),
    "load s": Figure(180, "stated: weights from NVMe or page cache, and warm-up"),
    "node life h": Figure(24, "stated: mean time until a spot node is taken"),
    "replace s": Figure(600, "stated: mean time until another is there"),
    "stragglers": Figure(0.02, "stated: share of groups that take 1.5 times as long"),
    "straggler factor": Figure(1.5, "stated: see above"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--gpu", default="H100", help="H100, A100, L40S, ...")
    parser.add_argument("--price", type=float, help="dollars per GPU-hour; else AWS on demand")
    parser.add_argument("--batches-per-task", type=int, default=1, help="samples of a Ray task")
    parser.add_argument("--plot", default="", help="also sweep sizes and draw that into this PNG")
    parser.add_argument("--seed", type=int, default=0)


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Simulate, print and return what each layout comes to, and the sweep over sizes.

    Raises:
        UserError: The fleet is not possible.
    """
    if options.gpus < 8 or options.samples < 1 or options.batches_per_task < 1:
        raise UserError("--gpus needs at least 8, --samples and --batches-per-task at least 1")
    price, source = _price(options)
    console.print(
        table(
            "what goes in",
            ("figure", "value"),
            [(name, f"{each.value:g}") for name, each in FIGURES.items()],
            "\n".join(f"{name}: {each.source}" for name, each in FIGURES.items())
            + f"\nprice: ${price} per GPU-hour, {source}"
            + "\nseconds per evaluation: estimated, pipeline/report/pricing/cost_model.py",
        )
    )
    runs = [
        _run(options, model, size, ranks, policy, price)
        for model, size, ranks in (
            ("wan2.1-t2v-1.3b", "480p", 1),
            ("wan2.1-t2v-14b", "480p", 1),
            ("wan2.1-t2v-14b", "480p", 2),
            ("wan2.1-t2v-14b", "480p", 4),
            ("wan2.1-t2v-14b", "480p", 8),
        )
        for policy in (POLICIES if ranks == 1 else ("planned",))
    ]
    console.print(_layouts(options, runs))
    console.print(_saturation(runs))
    sweep = []
    if options.plot:
        sweep = [
            _run(_sized(options, gpus), "wan2.1-t2v-1.3b", "480p", 1, policy, price)
            for policy in POLICIES
            for gpus in SIZES
        ]
        _draw(sweep, options.plot)
    return {
        "figures": {name: asdict(each) for name, each in FIGURES.items()},
        "price": {"dollars": price, "source": source},
        "runs": runs,
        "sweep": sweep,
    }


def _price(options: argparse.Namespace) -> tuple[float, str]:
    if options.price is not None:
        return float(options.price), "--price"
    from pipeline.report.pricing.prices import load_table

    for line in load_table("aws"):
        if options.gpu.lower() in line.gpu.lower() and line.on_demand is not None:
            return line.on_demand, f"{line.product} on demand, {line.date}, {line.source}"
    raise UserError(f"no list price of a {options.gpu} is known: give --price")


def _sized(options: argparse.Namespace, gpus: int) -> argparse.Namespace:
    return argparse.Namespace(
        **{**vars(options), "gpus": gpus, "samples": gpus * SWEEP_SAMPLES_PER_GPU}
    )


def _run(
    options: argparse.Namespace, model: str, size: str, ranks: int, policy: str, price: float
) -> dict[str, Any]:
    """Simulate one run and return its numbers as JSON values."""
    from jobs.benchmarks.fleet.simulation import (
        Fleet,
        FleetWorkload,
        Servers,
        simulate,
    )
    from pipeline.report.pricing.cost_model import (
        DEVICES,
        NETWORKS,
        SPLIT_EFFICIENCY,
        clip_cost,
    )

    if options.gpu not in DEVICES:
        raise UserError(f"--gpu {options.gpu}: should be one of {', '.join(DEVICES)}")
    cost = clip_cost(NETWORKS[model], size, options.gpu)
    nfe, spread = POLICIES[policy]
    evaluation_s = cost.evaluation_s / ranks / SPLIT_EFFICIENCY[ranks]
    workload = FleetWorkload(options.samples, cost.fixed_s, evaluation_s, nfe, spread)
    figure = {name: each.value for name, each in FIGURES.items()}
    fleet = Fleet(
        options.gpus,
        ranks,
        load_s=figure["load s"],
        node_life_s=figure["node life h"] * 3600,
        replace_s=figure["replace s"],
        straggler_share=figure["stragglers"],
        straggler_factor=figure["straggler factor"],
    )
    driver_ms = (
        figure["driver ms per Ray task"] / options.batches_per_task + figure["driver ms per sample"]
    )
    requests = figure["store requests per sample"]
    servers = Servers(
        driver_ms / 1000,
        figure["ledger ms per sample"] / 1000,
        requests / figure["store requests per s"],
    )
    try:
        result = simulate(fleet, workload, servers, options.seed)
    except ValueError as error:
        raise UserError(str(error)) from error
    rate = options.samples / result.wall_s
    groups = options.gpus // ranks
    alone = groups / workload.clip_s  # clips/s without any waiting
    return {
        "model": model,
        "size": size,
        "gpus": options.gpus,
        "ranks": ranks,
        "policy": policy,
        "samples": options.samples,
        "clip_s": workload.clip_s,
        "days": result.wall_s / 86400,
        "clips_per_s": rate,
        "efficiency": rate / alone,
        "lost": result.lost_s / result.gpu_s,
        "loading": result.loading_s / result.gpu_s,
        "idle": 1 - (result.useful_s + result.lost_s + result.loading_s) / result.gpu_s,
        "deaths": result.deaths,
        "cut_short": result.cut_short,
        "store_requests_per_s": rate * requests,
        "driver_bytes": options.samples * figure["driver bytes per sample"],
        "busy": result.busy,
        "full_at_gpus": {
            name.removesuffix("_s"): options.gpus / alone / seconds
            for name, seconds in asdict(servers).items()
        },
        "dollars": result.gpu_s / 3600 * price,
        "dollars_per_1000_clips": result.gpu_s / 3600 * price / options.samples * 1000,
    }


def _layouts(options: argparse.Namespace, runs: list[dict[str, Any]]) -> Any:
    rows = [
        (
            f"{run['model']} {run['size']}, P={run['ranks']}, {run['policy']}",
            f"{run['clip_s']:.1f}",
            f"{run['days']:.1f}",
            f"{run['clips_per_s']:.1f}",
            f"{run['efficiency']:.0%}",
            f"{run['lost']:.2%}",
            f"{run['loading']:.2%}",
            f"{run['store_requests_per_s']:.1f}",
            f"{run['busy']['driver']:.1%}",
            f"{run['busy']['ledger']:.1%}",
            f"{run['dollars_per_1000_clips']:.0f}",
        )
        for run in runs
    ]
    headings = ["run", "s/clip", "days", "clips/s", "of ideal", "lost", "loading"]
    headings += ["requests/s", "driver", "ledger", "$/1000"]
    title = f"{options.samples:,} clips on {options.gpus:,} {options.gpu}"
    return table(title, headings, rows, "of ideal: clips/s over groups / (s/clip)")


def _saturation(runs: list[dict[str, Any]]) -> Any:
    rows = []
    for run in runs:
        full = run["full_at_gpus"]
        first = min(full, key=full.__getitem__)
        name = f"{run['model']} {run['size']}, P={run['ranks']}, {run['policy']}"
        rows.append((name, *(f"{round(full[each], -1):,.0f}" for each in full), first))
    headings = ("GPUs at which it is full", *runs[0]["full_at_gpus"], "first")
    held = runs[0]["driver_bytes"] / 1e9
    return table("what is full first", headings, rows, f"requests held on the head: {held:.1f} GB")


def _draw(sweep: list[dict[str, Any]], path: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for policy, (nfe, _) in POLICIES.items():
        runs = [run for run in sweep if run["policy"] == policy]
        gpus = [run["gpus"] for run in runs]
        (line,) = axes.loglog(
            gpus, [run["clips_per_s"] for run in runs], "o-", label=f"{policy}, {nfe} evaluations"
        )
        ideal = [run["clips_per_s"] / run["efficiency"] for run in runs]
        axes.loglog(gpus, ideal, "--", color=line.get_color(), linewidth=1)
    for batches in (1, 16):
        limit = 1000 / (
            FIGURES["driver ms per Ray task"].value / batches
            + FIGURES["driver ms per sample"].value
        )
        axes.axhline(limit, color="black", linewidth=1)
        clips = "one clip" if batches == 1 else f"{batches} clips"
        axes.annotate(f"one driver, {clips} per Ray task", (SIZES[0], limit * 1.06))
    axes.set(xlabel="GPUs (groups of one)", ylabel="clips per second")
    axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(title="Wan 1.3B 480p; dashed: ideal", loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)
