"""`drafts`: do cheap drafts show which seed gives the best finished clip?

For each prompt some seeds are made as drafts of several budgets and as finished clips, all by the
code that `--best-of` runs. A judge of captions scores them. Prompts that are done are kept in a
file, so that an interrupted measurement goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jobs.benchmarks.candidates.kept import KeptPrompts
from jobs.benchmarks.candidates.slots import (
    FINISHED_NFE,
    JUDGE,
    STEPS,
    add_slot_arguments,
    model,
    run_config,
    slots,
)
from pipeline.errors import UserError

HELP = "how well the scores of drafts tell which seed gives the best finished clip"
BUDGETS = (5, 6, 8, 10, 13)
SEEDS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    add_slot_arguments(parser)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="clips of each prompt")
    parser.add_argument(
        "--nfe", type=int, nargs="+", default=BUDGETS, help="evaluations of the drafts"
    )
    parser.add_argument(
        "--partial", default="out/drafts.jsonl", help="keeps the prompts that are done"
    )


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: There are too few prompts or seeds, or the kept prompts have other settings.
    """
    from jobs.benchmarks.candidates.draft_tables import agreement_table

    if options.seeds < 4:
        raise UserError(f"--seeds {options.seeds}: at least 4, to choose among 4 drafts")
    settings = {
        "split": options.split,
        "seeds": options.seeds,
        "finished": FINISHED_NFE,
        "steps": STEPS,
        "budgets": sorted(options.nfe),
    }
    prompts = _prompts(options, settings, console)
    result = {**settings, "prompts": prompts}
    console.print(agreement_table(result))
    return result


def _prompts(
    options: argparse.Namespace, settings: Mapping[str, Any], console: Console
) -> list[dict[str, Any]]:
    """The measured prompts, those of an earlier start included."""
    kept = KeptPrompts(Path(options.partial), settings)
    done = kept.read()
    config = run_config({"cache": {"budget": FINISHED_NFE / STEPS}})
    requests = slots(config, options.split, options.prompts)
    if len(done) >= len(requests):
        return done[: len(requests)]
    from pipeline.engine.factory import engine_factory
    from pipeline.scoring.panel import ScoringPlan

    engine, panel = engine_factory(config, model())(), ScoringPlan((JUDGE,)).panel()
    for number, slot in enumerate(requests[len(done) :], len(done) + 1):
        measured = _measure(engine, panel, slot, settings)
        kept.add(measured)
        done.append(measured)
        console.log(f"{number}/{len(requests)} prompts")
    return done


def _measure(engine: Any, panel: Any, slot: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make and judge all clips of one prompt."""
    from pipeline.candidates.drafts import DraftSettings, candidates_of, drafts_of
    from pipeline.scoring.similarity import decibels

    seeds, steps = int(settings["seeds"]), int(settings["steps"])
    finished = engine.generate(candidates_of(slot, seeds))
    found: dict[str, Any] = {"caption": slot.prompt, "finished": _scores(panel, slot, finished)}
    found["drafts"] = {}
    for nfe in settings["budgets"]:
        drafts = engine.generate(drafts_of(slot, DraftSettings(seeds, nfe / steps)))
        if any(clip.cache["nfe"] != nfe for clip in drafts):
            raise AssertionError(f"drafts of {nfe} evaluations took {drafts[0].cache['nfe']}")
        errors = [
            np.mean(np.square((a.frames.astype(np.float64) - b.frames) / 255))
            for a, b in zip(drafts, finished, strict=True)
        ]
        psnr = [round(decibels(float(error)), 2) for error in errors]
        found["drafts"][str(nfe)] = {**_scores(panel, slot, drafts), "psnr": psnr}
    return found


def _scores(panel: Any, slot: Any, clips: Sequence[Any]) -> dict[str, list[float]]:
    """Scores of clips by name."""
    from pipeline.scoring.scorer import ScoredClip

    row = {"source": slot.source}
    scored = [panel.score(ScoredClip(clip.frames, slot.fps, slot.prompt, row)) for clip in clips]
    if missing := [each.missing for each in scored if each.missing]:
        raise UserError(f"the judge gave no score: {missing[0]}")
    return {name: [round(float(each.scores[name]), 4) for each in scored] for name in panel.names}
