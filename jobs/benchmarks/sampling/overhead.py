"""`overhead`: the cost of the cache in the denoising loop, and its speed-up against the ideal.

Arms take turns in one process: no hook (twice, to show how much two equal arms differ on this
machine), hooks that reuse nothing, and hooks that reuse steps.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jobs.benchmarks.sampling.load_loop import add_model_arguments, load_loop
from jobs.benchmarks.tables import table
from pipeline.errors import UserError

if TYPE_CHECKING:
    from jobs.benchmarks.sampling.denoising_loop import Arm, DenoisingLoop
    from jobs.benchmarks.sampling.paired import ArmCost
    from sencache import SensitivityProfile

HELP = "cost of the cache over the denoising loop, and wall ratio against the ideal"
EPSILONS = (0.1, 0.2, 0.4)
BUDGETS = (0.5, 0.34, 0.26)
CAPS = (1, 2, 3)
"""Largest numbers of consecutive reuses in the arms with random weights."""

CAPTION = (
    "ratio: seconds without a hook / the arm's, within a repeat. ideal: steps / NFE. "
    "cost: what the loop takes longer, in percent of it. "
)
FIXED = "Random weights have no sensitivities: every (1 + n)-th step computes, a fixed pattern"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    add_model_arguments(parser)
    parser.add_argument("--batch-rows", type=int, default=0, help="default: what suits the model")
    parser.add_argument("--repeats", type=int, default=9, help="of every arm; medians are shown")
    parser.add_argument("--max-reuse", type=int, default=3)
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="the model's transformer in its true shape, nothing to download",
    )
    for name in ("height", "width", "num-frames", "layers", "text-tokens"):
        parser.add_argument(
            f"--{name}", type=int, default=0, help="with --random-weights; default: the model's"
        )


def main(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measure, print and return the arms.

    Raises:
        UserError: Model, profile, prompts, device or an option cannot be used.
    """
    from jobs.benchmarks.sampling.paired import compare_costs, take_turns
    from pipeline.engine.device import device_name
    from pipeline.models.registry import get_model

    spec = get_model(options.model)
    rows = options.batch_rows or spec.batch_rows
    for flag, value in (("--repeats", options.repeats), ("--batch-rows", rows)):
        if value < 1:
            raise UserError(f"{flag} {value}: at least 1 is needed")
    if options.random_weights:
        loop, arms = _random(options, rows)
    else:
        loop, profile = load_loop(options, rows)
        arms = cached_arms(profile, options.max_reuse)
    runs = take_turns(loop, arms, options.repeats)
    costs = compare_costs(
        [arm.name for arm in arms],
        [[one.seconds for one in own] for own in runs],
        [statistics.fmean(own[0].nfe) for own in runs],
        loop.steps,
    )
    size = "{width}x{height}x{num_frames}".format(**loop.settings)
    title = (
        f"{spec.name}, {size}, {rows} rows, {loop.steps} steps, median of {options.repeats}, "
        f"{device_name(loop.device)}"
    )
    console.print(_table(title, costs, CAPTION + (FIXED if options.random_weights else "")))
    return [asdict(cost) for cost in costs]


def cached_arms(profile: SensitivityProfile, max_reuse: int) -> list[Arm]:
    """Return the arms of a model with a measured profile, the control first."""
    from jobs.benchmarks.sampling.denoising_loop import Arm
    from sencache import SenCacheConfig

    return [
        *_idle(profile),
        *(
            Arm(
                f"epsilon {epsilon:g}",
                SenCacheConfig(policy="paper", epsilon=epsilon, max_reuse=max_reuse),
                profile,
            )
            for epsilon in EPSILONS
        ),
        *(
            Arm(f"planned {budget:g}", SenCacheConfig(policy="planned", budget=budget), profile)
            for budget in BUDGETS
            if profile.drift is not None
        ),
    ]


def fixed_arms(profile: SensitivityProfile) -> list[Arm]:
    """Return the arms of a model with random weights: only the cap on reuses decides."""
    from jobs.benchmarks.sampling.denoising_loop import Arm
    from sencache import SenCacheConfig

    return [
        *_idle(profile),
        *(
            Arm(
                f"fixed, n {cap}",
                SenCacheConfig(policy="paper", epsilon=1e9, max_reuse=cap, strict_fraction=0.0),
                profile,
            )
            for cap in CAPS
        ),
    ]


def _idle(profile: SensitivityProfile) -> list[Arm]:
    """Return the arms that compute every step."""
    from jobs.benchmarks.sampling.denoising_loop import Arm
    from sencache import SenCacheConfig

    return [
        Arm("no hook"),
        Arm("no hook (2)"),
        Arm("epsilon 0", SenCacheConfig(policy="paper", epsilon=0.0), profile),
        Arm("policy none", SenCacheConfig(policy="none")),
    ]


def _random(options: argparse.Namespace, rows: int) -> tuple[DenoisingLoop, list[Arm]]:
    from jobs.benchmarks.sampling.random_weights import constant_profile, random_loop
    from pipeline.engine.device import pick_device
    from pipeline.models.registry import get_model

    spec = get_model(options.model)
    loop = random_loop(
        spec,
        rows,
        pick_device(options.device),
        steps=options.steps,
        height=options.height,
        width=options.width,
        num_frames=options.num_frames,
        layers=options.layers,
        text_tokens=options.text_tokens,
    )
    return loop, fixed_arms(constant_profile(spec, loop))


def _table(title: str, costs: list[ArmCost], caption: str) -> Any:
    rows = []
    for cost in costs:
        reuses = cost.ideal > 1.0
        rows.append(
            (
                cost.name,
                f"{cost.nfe_mean:.1f}",
                f"{cost.wall_s:.2f}",
                f"{cost.ratio:.3f}",
                f"{cost.ratio_low:.2f}-{cost.ratio_high:.2f}",
                f"{cost.ideal:.3f}",
                f"{cost.efficiency:.3f}",
                "" if reuses else f"{cost.cost_percent:+.2f}",
            )
        )
    headings = ("arm", "NFE", "wall s", "ratio", "quartiles", "ideal", "of ideal", "cost %")
    return table(title, headings, rows, caption)
