"""`draft-shortcuts`: would drafts pay more if they were gone on from, or given up early?

- Finishing goes on from what the draft computed: the finished clip then has to begin with the
  draft's steps, which were chosen for a smaller budget. Measured against plans without a draft.
- Drafts that look hopeless half-way are given up: the clip that the outputs so far predict is
  decoded and judged. Measured on prompts and seeds of the benchmark `drafts`.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jobs.benchmarks import candidates
from jobs.benchmarks.candidates.agreement import Floats, draft_agreement
from jobs.benchmarks.candidates.slots import (
    FINISHED_NFE,
    JUDGE,
    STEPS,
    add_slot_arguments,
    run_config,
    slots,
)
from jobs.benchmarks.demo_model.caption_judge import SCORE
from jobs.benchmarks.quality.intervals import interval

HELP = "whether drafts pay more if they are finished from their own outputs, or stopped early"
DRAFT_NFE, HALF = 8, 4
PLANS = (
    *((17, 0), (17, 1), (17, 2), (18, 2), (17, 3), (19, 3)),
    *((16, 0), (15, 0), (14, 0), (13, 0), (12, 0), (11, 0), (10, 0)),
)
"""Computed steps of a finished clip, and how many of them are the draft's first."""
KEPT_DRAFTS = Path(candidates.__file__).parent / "results" / "drafts.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    add_slot_arguments(parser)
    parser.add_argument(
        "--drafts", default="", help="JSON of the benchmark `drafts`; empty: the one in BENCHMARKS"
    )
    parser.add_argument("--clips", type=int, default=8, help="clips that are finished")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: There are too few prompts.
    """
    from jobs.benchmarks.draft_shortcuts.half_way import ShortcutBench
    from jobs.benchmarks.draft_shortcuts.tables import half_table, shared_table

    drafts = json.loads(Path(options.drafts or KEPT_DRAFTS).read_text())["result"]
    config = run_config({"cache": {"budget": FINISHED_NFE / STEPS}})
    requests = slots(config, drafts["split"], options.prompts)
    bench = ShortcutBench.load(config)
    plans = bench.plans(requests[: options.clips], PLANS, DRAFT_NFE)
    console.print(shared_table(plans))
    halves = []
    for number, slot in enumerate(requests, 1):
        halves.append(bench.half_way(slot, drafts["seeds"], DRAFT_NFE, HALF, JUDGE, SCORE))
        console.log(f"{number}/{len(requests)} prompts")
    result = {"clips": options.clips, "plans": plans, "half": half_summary(drafts, halves)}
    console.print(half_table(result["half"]))
    return result


def half_summary(drafts: dict[str, Any], halves: Sequence[Sequence[float]]) -> dict[str, Any]:
    """What is lost if the worse two of four drafts are given up half-way.

    Args:
        drafts: Result of the benchmark `drafts`.
        halves: Scores of the predicted clips, per prompt and seed; of its first prompts.
    """
    prompts = drafts["prompts"][: len(halves)]
    finished = np.array([each["finished"][SCORE] for each in prompts])
    whole = np.array([each["drafts"][str(DRAFT_NFE)][SCORE] for each in prompts])
    early = np.array(halves)
    return {
        "prompts": len(prompts),
        "halves": [[round(value, 4) for value in row] for row in halves],
        "agreement": dataclasses.asdict(draft_agreement(early.tolist(), finished.tolist())),
        "gain": {
            "4 whole drafts": gain_of_four(whole, whole, finished, kept=4),
            "4 drafts, 2 given up half-way": gain_of_four(early, whole, finished, kept=2),
            "4 half drafts": gain_of_four(early, early, finished, kept=1),
        },
    }


def gain_of_four(early: Floats, whole: Floats, finished: Floats, *, kept: int) -> dict[str, float]:
    """Score of the clip that four drafts choose, less that of a clip of any seed.

    Args:
        early: Scores half-way, of shape [prompts, seeds].
        whole: Scores of whole drafts.
        finished: Scores of finished clips.
        kept: Drafts of four that are completed, the best half-way.

    Returns:
        Mean over prompts and all choices of four seeds, and its interval over prompts.
    """
    gains = []
    for first, second, last in zip(early, whole, finished, strict=True):
        scores = []
        for some in itertools.combinations(range(len(last)), 4):
            left = sorted(some, key=lambda seed: -first[seed])[:kept]
            scores.append(last[max(left, key=lambda seed: second[seed])])
        gains.append(float(np.mean(scores) - last.mean()))
    return dataclasses.asdict(interval(gains))
