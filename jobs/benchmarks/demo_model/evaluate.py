"""Measures how well clips show what their captions ask for.

``python -m jobs.benchmarks.demo_model.evaluate`` judges real clips, the autoencoder's
reconstructions of them, and clips generated from the same held-out captions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from jobs.benchmarks.demo_model.captions import ATTRIBUTES, Attributes, caption_of, combinations
from jobs.benchmarks.demo_model.judge import agreement, judge
from jobs.benchmarks.demo_model.palette import PLAIN, Palette, palette_of
from jobs.benchmarks.demo_model.sprites import attributes_of, render
from jobs.benchmarks.profiles.bench import Bench, load_bench
from pipeline.commands.parser import CommandParser
from pipeline.models.demo import WEIGHTS_DIR

CHANCE = {name: 1 / len(words) for name, words in ATTRIBUTES.items()}
"""Accuracy of guessing, by attribute."""

_SEED_BASE = 1_000_000  # seeds of generated clips; training draws its noise elsewhere


def held_out_rows(count: int, seed: int) -> Tensor:
    """Picks distinct attribute combinations that were never trained on.

    Args:
        count: How many; at most 120.
        seed: Seed of the choice.

    Returns:
        Integer tensor ``(count, 5)``.

    Raises:
        ValueError: More combinations are wanted than are held out.
    """
    table = torch.tensor(combinations(held_out=True))
    if count > len(table):
        raise ValueError(f"only {len(table)} combinations are held out, not {count}")
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))
    return table[order[:count]]


def generate(bench: Bench, captions: Sequence[str], seeds: Sequence[int], **changes: Any) -> Tensor:
    """Generates one clip per caption, all in one batch.

    Args:
        bench: The model.
        captions: What to show.
        seeds: One seed per caption; a clip does not depend on its neighbours.
        **changes: Fields of a request that differ from the model's own settings.

    Returns:
        ``(len(captions), 3, frames, height, width)`` in [-1, 1].
    """
    requests = [
        replace(bench.template, prompt=caption, seed=seed, **changes)
        for caption, seed in zip(captions, seeds, strict=True)
    ]
    return bench.run(requests, "pt").transpose(1, 2) * 2 - 1


@torch.no_grad()
def reconstruct(pipeline: DiffusionPipeline, clips: Tensor) -> Tensor:
    """Encodes clips to the posterior's mode and decodes them again; shapes stay the same."""
    vae = getattr(pipeline.vae, "inner", pipeline.vae)
    decoded: Tensor = vae.decode(vae.encode(clips).latent_dist.mode()).sample
    return decoded


def score(
    clips: Tensor, wanted: Sequence[Attributes], palette: Palette = PLAIN
) -> dict[str, float]:
    """Judges clips against what was asked for.

    Args:
        clips: ``(count, 3, frames, size, size)`` in [-1, 1].
        wanted: Complete attributes, one per clip.
        palette: What the colours of captions look like.

    Returns:
        Shares of clips, in [0, 1]: right in each attribute and in ``all``, and with a sprite that
        ``vanished`` or ``jumped``; beside them the mean outline overlap ``fit``.
    """
    verdicts = judge(clips, palette)
    rows = [agreement(verdict, want) for verdict, want in zip(verdicts, wanted, strict=True)]
    count = len(rows)
    shares = {name: sum(row[name] for row in rows) / count for name in (*ATTRIBUTES, "all")}
    shares["vanished"] = sum(verdict.vanished for verdict in verdicts) / count
    shares["jumped"] = sum(verdict.jumped for verdict in verdicts) / count
    shares["fit"] = sum(verdict.fit for verdict in verdicts) / count
    return shares


def _table(results: dict[str, dict[str, float]]) -> Table:
    table = Table(title="share of clips in which the judge sees what the caption asks for")
    for heading in ("", *results, "chance"):
        table.add_column(heading, justify="left" if not heading else "right")
    all_right = 1.0
    for share in CHANCE.values():
        all_right *= share
    chance = {**CHANCE, "all": all_right}
    for name in next(iter(results.values())):
        cells = [
            f"{result[name]:.3f}" if name == "fit" else f"{result[name]:.1%}"
            for result in results.values()
        ]
        table.add_row(name, *cells, f"{chance[name]:.1%}" if name in chance else "")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the evaluation from the command line and returns the exit status."""
    parser = CommandParser(prog="python -m jobs.benchmarks.demo_model.evaluate")
    parser.add_argument("--weights", type=Path, default=WEIGHTS_DIR)
    parser.add_argument("--clips", type=int, default=120, help="held-out captions, at most 120")
    parser.add_argument("--steps", type=int, help="default: the model's")
    parser.add_argument("--guidance", type=float, help="default: the model's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args(arguments)

    bench = load_bench("demo", str(options.weights), "cpu")
    own = bench.template
    changes = {
        "num_inference_steps": options.steps or own.num_inference_steps,
        "guidance_scale": own.guidance_scale if options.guidance is None else options.guidance,
    }
    palette = palette_of(options.weights)
    rows = held_out_rows(options.clips, options.seed)
    wanted = [attributes_of(row) for row in rows]
    captions = [caption_of(want) for want in wanted]
    generator = torch.Generator().manual_seed(_SEED_BASE + options.seed)
    real = render(rows, generator, palette=palette)
    rebuilt, made = [], []
    for first in track(range(0, len(rows), options.batch), description="clips"):
        part = slice(first, first + options.batch)
        seeds = [_SEED_BASE + 1000 * options.seed + i for i in range(len(rows))][part]
        rebuilt.append(reconstruct(bench.pipe, real[part]))
        made.append(generate(bench, captions[part], seeds, **changes))
    results = {
        "real clips": score(real, wanted, palette),
        "reconstructions": score(torch.cat(rebuilt), wanted, palette),
        "generated": score(torch.cat(made), wanted, palette),
    }
    Console().print(_table(results))
    if options.json is not None:
        settings = {
            "clips": len(rows),
            "steps": changes["num_inference_steps"],
            "guidance_scale": changes["guidance_scale"],
            "seed": options.seed,
        }
        report = {"settings": settings, "chance": CHANCE, "results": results}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
