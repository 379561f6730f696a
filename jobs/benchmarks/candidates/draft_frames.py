"""`draft-frames`: what is lost if only the first frames of drafts are decoded and judged.

The drafts are those of the benchmark `drafts`, and so are the finished clips that they are held to.
Frames are cut from whole drafts: with a causal decoder they are those that `--draft-frames` decodes
(`pipeline.engine.call_shape`).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jobs.benchmarks.candidates.agreement import draft_agreement
from jobs.benchmarks.candidates.slots import (
    FINISHED_NFE,
    JUDGE,
    STEPS,
    add_slot_arguments,
    model,
    run_config,
    slots,
)
from jobs.benchmarks.demo_model.caption_judge import SCORE
from jobs.benchmarks.quality.intervals import Interval
from jobs.benchmarks.tables import table

HELP = "how much the first frames of drafts tell of the finished clips"
BUDGETS = (6, 8)
FRAMES = (5, 9, 13, 17)
TIMED_PROMPTS, TIMED_DRAFTS = 4, 4
KEPT_DRAFTS = Path(__file__).parent / "results" / "drafts.json"
HEADINGS = (
    *("drafts of", "frames judged", "decoding, in evaluations"),
    *("rank correlation", "same seed of 8", "gained by 4 drafts"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    add_slot_arguments(parser)


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: There are too few prompts.
    """
    from pipeline.engine.factory import engine_factory
    from pipeline.scoring.panel import ScoringPlan

    drafts = json.loads(KEPT_DRAFTS.read_text())["result"]
    config = run_config({"cache": {"budget": FINISHED_NFE / STEPS}})
    requests = slots(config, drafts["split"], options.prompts)
    engine, panel = engine_factory(config, model())(), ScoringPlan((JUDGE,)).panel()
    scores: dict[str, list[list[float]]] = {
        _key(nfe, frames): [] for nfe in BUDGETS for frames in FRAMES
    }
    for number, slot in enumerate(requests, 1):
        for key, values in _scores(engine, panel, slot, drafts["seeds"]).items():
            scores[key].append(values)
        console.log(f"{number}/{len(requests)} prompts")
    result = {
        "steps": STEPS,
        "seeds": drafts["seeds"],
        "finished": [each["finished"][SCORE] for each in drafts["prompts"][: len(requests)]],
        "scores": scores,
        "decoding": _decoding(engine, panel, requests[:TIMED_PROMPTS]),
    }
    title = f"demo, {len(requests)} captions x {drafts['seeds']} seeds"
    console.print(table(title, HEADINGS, draft_frames_cells(result)))
    return result


def draft_frames_cells(result: Mapping[str, Any]) -> list[list[str]]:
    """The cells of the table, one row per budget and number of frames."""
    rows = []
    for nfe in BUDGETS:
        for frames in FRAMES:
            found = draft_agreement(result["scores"][_key(nfe, frames)], result["finished"])
            same = found.same_seed
            rows.append(
                [
                    f"{nfe} of {result['steps']}",
                    f"{frames} of {FRAMES[-1]}",
                    f"{result['decoding'][str(frames)]:.1f}",
                    _shown(found.rank_correlation),
                    f"{same.mean:.0%} [{same.low:.0%}, {same.high:.0%}]",
                    _shown(found.gain_of_four),
                ]
            )
    return rows


def _key(nfe: int, frames: int) -> str:
    return f"{nfe}, {frames} frames"


def _scores(engine: Any, panel: Any, slot: Any, seeds: int) -> dict[str, list[float]]:
    """Scores of the first frames of the drafts of a prompt, per budget and number of frames."""
    from pipeline.candidates.drafts import DraftSettings, drafts_of
    from pipeline.scoring.scorer import ScoredClip

    found = {}
    row = {"source": slot.source}
    for nfe in BUDGETS:
        clips = engine.generate(drafts_of(slot, DraftSettings(seeds, nfe / STEPS)))
        for frames in FRAMES:
            seen = [
                ScoredClip(np.ascontiguousarray(clip.frames[:frames]), slot.fps, slot.prompt, row)
                for clip in clips
            ]
            found[_key(nfe, frames)] = [
                round(float(panel.score(each).scores[SCORE] or 0.0), 4) for each in seen
            ]
    return found


def _decoding(engine: Any, panel: Any, requests: Sequence[Any]) -> dict[str, float]:
    """What decoding so many frames costs, in evaluations of the network; medians over prompts."""
    from jobs.benchmarks.candidates.maker import TimedMaker
    from pipeline.candidates.drafts import DraftSettings, drafts_of

    nfe = BUDGETS[-1]
    spent: dict[str, list[float]] = {str(frames): [] for frames in FRAMES}
    for slot in requests:
        for frames in FRAMES:
            settings = DraftSettings(TIMED_DRAFTS, nfe / STEPS, frames=frames)
            for row in TimedMaker(engine, panel)([[each] for each in drafts_of(slot, settings)]):
                one = row["times"]["denoise_s"] / nfe
                spent[str(frames)].append(row["times"]["decode_s"] / one)
    return {frames: round(statistics.median(values), 2) for frames, values in spent.items()}


def _shown(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
