"""`good-clips`: what a good clip costs: uncached, planned, redrawn, chosen by drafts, distilled.

All arms make clips of the same prompts in one run; what chooses and tries again is the code of
`pipeline.candidates`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.benchmarks.candidates.arms import ARMS, GoodClipArm
from jobs.benchmarks.candidates.kept import KeptPrompts
from jobs.benchmarks.candidates.slots import (
    JUDGE,
    STEPS,
    add_slot_arguments,
    model,
    run_config,
    slots,
)
from jobs.benchmarks.demo_model.caption_judge import RIGHT, SCORE

HELP = "what a good clip costs: uncached, planned, redrawn, best of drafts, distilled"
KEEP = f"{RIGHT} = 1"
PROMPTS_AT_ONCE = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    add_slot_arguments(parser)
    parser.add_argument("--price", type=float, default=0.10, help="$ per hour of a core")
    parser.add_argument(
        "--partial", default="out/good-clips.jsonl", help="keeps the prompts that are done"
    )


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: There are too few prompts.
    """
    from jobs.benchmarks.candidates.good_clip_tables import good_clip_table
    from jobs.benchmarks.candidates.prompt_costs import summaries

    tries = _measure(options, console)
    result = {
        "split": options.split,
        "prompts": options.prompts,
        "keep": KEEP,
        "price": options.price,
        "arms": [asdict(each) for each in summaries(tries, options.price)],
        "tries": tries,
    }
    console.print(good_clip_table(result))
    return result


def _measure(options: argparse.Namespace, console: Console) -> dict[str, list[list[Any]]]:
    """Make the clips of all arms, some prompts at a time; arms take turns.

    Returns:
        Per arm and prompt its clips in order, drafts first, as `PromptTry` without names.
    """
    from jobs.benchmarks.candidates.maker import TimedMaker
    from pipeline.scoring.panel import ScoringPlan

    configs = {arm.name: run_config(arm.settings) for arm in ARMS}
    requests = {arm.name: slots(configs[arm.name], options.split, options.prompts) for arm in ARMS}
    settings = {"split": options.split, "keep": KEEP, "arms": [asdict(arm) for arm in ARMS]}
    kept = KeptPrompts(Path(options.partial), settings)
    groups = kept.read()
    starts = range(0, options.prompts, PROMPTS_AT_ONCE)
    if len(groups) < len(starts):
        panel = ScoringPlan((JUDGE,), KEEP).panel()
        engines = _engines(configs)
        for name, engine in engines.items():
            engine.generate(requests[name][:1])  # the first call loads kernels
        with tempfile.TemporaryDirectory() as folder:
            for turn, start in list(enumerate(starts))[len(groups) :]:
                found: dict[str, list[list[Any]]] = {}
                for position in range(len(ARMS)):
                    arm = ARMS[(position + turn) % len(ARMS)]
                    maker = TimedMaker(engines[arm.name], panel)
                    some = requests[arm.name][start : start + PROMPTS_AT_ONCE]
                    _make(arm, some, maker, folder)
                    found[arm.name] = [
                        [_tried(row) for row in maker.rows if row["source"] == slot.source]
                        for slot in some
                    ]
                kept.add(found)
                groups.append(found)
                console.log(f"{min(start + PROMPTS_AT_ONCE, options.prompts)} prompts of every arm")
    whole: dict[str, list[list[Any]]] = {}
    for arm in ARMS:
        prompts = [prompt for group in groups[: len(starts)] for prompt in group[arm.name]]
        if arm.plain:
            whole[arm.plain] = [prompt[:1] for prompt in prompts]
        whole[arm.name] = prompts
    return whole


def _make(arm: GoodClipArm, requests: Sequence[Any], maker: Any, folder: str) -> None:
    """Make the clips of an arm as a run would."""
    from pipeline.candidates.best_of import make_best
    from pipeline.candidates.drafts import DraftSettings
    from pipeline.candidates.redraws import make_with_redraws
    from pipeline.scoring.conditions import RowRank
    from pipeline.storage.storage import Storage

    units = [[replace(request, candidates=1 + arm.redraw)] for request in requests]
    if arm.best_of > 1:
        settings = DraftSettings(arm.best_of, arm.draft_nfe / STEPS, SCORE, frames=arm.draft_frames)
        make_best(units, maker, settings, RowRank(SCORE, maker.panel.names), Storage(folder))
    else:
        make_with_redraws(units, maker, maker.panel)


def _tried(row: Mapping[str, Any]) -> list[Any]:
    """A clip as it is kept in the result: the values of `PromptTry`."""
    scores = {each["name"]: each["value"] for each in row["scores"]}
    times = row["times"]
    return [
        row["cache"]["nfe"],
        round(row["gpu_s"], 4),
        round(times["denoise_s"], 4),
        round(scores[SCORE], 4),
        bool(row["good"]),
    ]


def _engines(configs: Mapping[str, Any]) -> dict[str, Any]:
    """One engine for all arms with the same weights, by the arm's name."""
    from pipeline.engine.factory import engine_factory

    made: dict[tuple[str, ...], Any] = {}
    # An engine of a cached arm holds the profile, and serves uncached arms as well.
    for config in sorted(configs.values(), key=lambda each: each.cache.policy == "none"):
        adapters = tuple(config.engine.adapters)
        if adapters not in made:
            made[adapters] = engine_factory(config, model())()
    return {name: made[tuple(config.engine.adapters)] for name, config in configs.items()}
