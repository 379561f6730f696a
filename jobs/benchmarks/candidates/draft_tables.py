"""The table of draft agreement, for the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from jobs.benchmarks.candidates.agreement import DraftAgreement, draft_agreement
from jobs.benchmarks.demo_model.caption_judge import SCORE
from jobs.benchmarks.quality.intervals import Interval
from jobs.benchmarks.tables import table

HEADINGS = (
    *("drafts of", "PSNR to finished, dB", "rank correlation", "same seed of 8"),
    *("regret, of 8", "regret, of 4", "gained by 4 drafts"),
)


def agreement_of(result: Mapping[str, Any], nfe: int) -> DraftAgreement:
    """How well the drafts of a number of evaluations agree with the finished clips.

    Args:
        result: Of the benchmark `drafts`.
        nfe: One of its budgets.
    """
    prompts = result["prompts"]
    drafts = [each["drafts"][str(nfe)][SCORE] for each in prompts]
    return draft_agreement(drafts, [each["finished"][SCORE] for each in prompts])


def agreement_cells(result: Mapping[str, Any]) -> list[list[str]]:
    """The cells of the table, one row per budget."""
    rows = []
    for nfe in result["budgets"]:
        found = agreement_of(result, nfe)
        psnr = [value for each in result["prompts"] for value in each["drafts"][str(nfe)]["psnr"]]
        same = found.same_seed
        rows.append(
            [
                f"{nfe} of {result['steps']}",
                f"{sum(psnr) / len(psnr):.1f}",
                _shown(found.rank_correlation),
                f"{same.mean:.0%} [{same.low:.0%}, {same.high:.0%}]",
                _shown(found.regret),
                _shown(found.regret_of_four),
                _shown(found.gain_of_four),
            ]
        )
    return rows


def agreement_table(result: Mapping[str, Any]) -> Table:
    """The table for the console."""
    title = f"demo, {len(result['prompts'])} captions x {result['seeds']} seeds"
    caption = f"finished clips: {result['finished']} of {result['steps']} steps computed"
    return table(title, HEADINGS, agreement_cells(result), caption)


def _shown(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
