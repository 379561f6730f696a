"""Quality of plans against one source of `promise`, clip by clip, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.benchmarks.profiles.promise import RULE
from jobs.benchmarks.quality.document.tables import markdown_row
from jobs.benchmarks.quality.intervals import Interval, paired, paired_worst_decile

SHIPPED = "shipped profile"


@dataclass(frozen=True)
class SourceDifference:
    """PSNR of the plans from one source less those from the reference, of the same clips.

    Attributes:
        sampler: As in `pipeline.models.samplers`.
        steps: Of the sampler.
        nfe: Evaluations of the source's plans.
        source: What the plans were made from.
        reference: What they are compared with.
        mean: Difference of the means, dB.
        tenth: Difference of the worst tenths, dB.
    """

    sampler: str
    steps: int
    nfe: int
    source: str
    reference: str
    mean: Interval
    tenth: Interval


def differences(rows: Sequence[Mapping[str, Any]]) -> list[SourceDifference]:
    """Compare every source with the shipped profile, or with the paper's rule where it ran.

    A source that makes the same plans is left out. The rule is compared at the one point that it
    was tuned to.

    Args:
        rows: Of one `promise` result.
    """
    made = []
    for reference in rows:
        if reference["from"] not in (SHIPPED, RULE):
            continue
        for row in rows:
            setting = [row[name] == reference[name] for name in ("sampler", "steps")]
            if not all(setting) or row["from"] in (SHIPPED, RULE):
                continue
            if round(reference["nfe"]) != row["nfe"]:
                continue
            pair = row["psnr_per_clip"], reference["psnr_per_clip"]
            if pair[0] == pair[1]:  # the same profile, so the same plans
                continue
            made.append(
                SourceDifference(
                    sampler=row["sampler"],
                    steps=row["steps"],
                    nfe=row["nfe"],
                    source=row["from"],
                    reference=reference["from"],
                    mean=paired(*pair),
                    tenth=paired_worst_decile(*pair),
                )
            )
    return made


def difference_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The differences as a table of Markdown; "" where there are none."""
    found = differences(rows)
    if not found:
        return ""
    headings = ["sampler, steps, plans from", "NFE", "against", "mean, dB", "worst tenth, dB"]
    lines = [markdown_row(headings), markdown_row(["---"] * len(headings))]
    for each in found:
        name = f"{each.sampler.partition('Scheduler')[0]} {each.steps}, {each.source}"
        cells = [name, str(each.nfe), each.reference, _cell(each.mean), _cell(each.tenth)]
        lines.append(markdown_row(cells))
    return "\n".join(lines)


def _cell(value: Interval) -> str:
    """A difference and its interval of 95 %."""
    return f"{value.mean:+.1f} [{value.low:+.1f}, {value.high:+.1f}]"
