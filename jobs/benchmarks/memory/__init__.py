"""`memory`: what each model of the registry needs of a GPU, without one.

With `--recompute` it computes the figures anew from fake tensors, in about a minute.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console

HELP = "GB of device memory that each model needs: weights, sampling, decoding"

HEADINGS = ("model", "size", "batch", "weights", "sampling", "decoding", "needs", "smallest card")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model", default="", help="only this one, at the size given below")
    for name in ("width", "height", "num-frames"):
        parser.add_argument(f"--{name}", type=int, default=0, help="default: the model's")
    parser.add_argument("--batch-rows", type=int, default=1, help="clips in one call")
    parser.add_argument("--policy", default="planned", choices=("none", "paper", "planned"))
    parser.add_argument("--degree", type=int, default=1, help="ranks that share the tokens")
    parser.add_argument("--recompute", action="store_true", help="compute the figures anew first")


def main(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Print and return what each model needs.

    Raises:
        UserError: The model is unknown, or has no figures.
    """
    from jobs.benchmarks.tables import table
    from pipeline.errors import UserError
    from pipeline.models.memory.need import FIGURES, figures
    from pipeline.models.registry import get_model

    if options.recompute:
        FIGURES.write_text(json.dumps(_measure(options.model), indent=1) + "\n")
        figures.cache_clear()
    if options.model and get_model(options.model).name not in figures():
        raise UserError(f"--model {options.model}: its memory was not measured")
    names = [options.model] if options.model else list(figures())
    rows = [_row(name, options) for name in names]
    cells = [tuple(str(value) for value in row.values()) for row in rows]
    console.print(table("Memory of one GPU, GB (10^9 bytes)", HEADINGS, cells, ""))
    return rows


def markdown() -> str:
    """The table of docs/gpu.md: every model at its default size."""
    options = argparse.Namespace(
        width=0, height=0, num_frames=0, batch_rows=1, policy="planned", degree=1
    )
    from pipeline.models.memory.need import figures

    rows = [_row(name, options) for name in figures()]
    lines = [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
    lines += [f"| {' | '.join(str(value) for value in row.values())} |" for row in rows]
    return "\n".join(lines) + "\n"


def _row(name: str, options: argparse.Namespace) -> dict[str, Any]:
    from pipeline.models.memory.cards import cards_that_hold
    from pipeline.models.memory.need import Workload, memory_need
    from pipeline.models.registry import get_model
    from pipeline.parallel.layout import ParallelLayout

    spec = get_model(name)
    own = spec.defaults
    work = Workload(
        options.width or own.width,
        options.height or own.height,
        options.num_frames or own.num_frames,
        options.batch_rows,
        own.guidance_scale > 1.0,
    )
    layout = ParallelLayout(ulysses=options.degree)
    need = memory_need(spec, work, options.policy, layout=layout)
    assert need is not None  # noqa: S101 - it has figures
    fits, _ = cards_that_hold(need.total)
    return {
        "model": name,
        "size": f"{work.width}x{work.height}x{work.num_frames}",
        "rows": work.rows,
        "weights": round(sum(need.weights.values()), 1),
        "sampling": round(need.sampling, 1),
        "decoding": f"{need.decode:.1f}{' (tiles)' if spec.tiled else ''}",
        "needs": round(need.total, 1),
        "card": fits[0] if fits else "none",
    }


def _measure(model: str) -> dict[str, Any]:
    from jobs.benchmarks.memory.architectures import PARTS
    from jobs.benchmarks.memory.measure import measured
    from pipeline.models.memory.need import FIGURES
    from pipeline.models.registry import get_model

    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for name in [model] if model else PARTS:
        known[name] = measured(get_model(name))
    return {name: known[name] for name in PARTS if name in known}
