"""The values of every clip of every arm, and their summaries."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.benchmarks.quality.intervals import (
    interval,
    paired,
    percentile_95,
    worst_decile,
)
from jobs.benchmarks.quality.points import OperatingPoint

DIGITS = {"psnr": 3, "ssim": 5, "lpips": 5}
"""Digits to which the values of each metric are kept per clip."""


@dataclass
class ArmRecord:
    """The values of one arm at one point, in the order of the clips.

    Attributes:
        point: The arm and how it ran.
        nfe: Evaluations per clip, in steps.
        seconds: Seconds of the denoising loop, per batch.
        control_seconds: Seconds of the uncached loop of the same batch.
        distances: Values per clip, by reference and metric.
        right, fit: The verdicts of the judge, if there is one.
    """

    point: OperatingPoint
    nfe: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    control_seconds: list[float] = field(default_factory=list)
    distances: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    right: list[bool] = field(default_factory=list)
    fit: list[float] = field(default_factory=list)

    def add(self, reference: str, metric: str, value: float) -> None:
        """Add a clip's distance from a reference."""
        self.distances.setdefault(reference, {}).setdefault(metric, []).append(value)

    def values(self, reference: str, metric: str) -> list[float]:
        """Return the values per clip; empty if they were not measured."""
        return self.distances.get(reference, {}).get(metric, [])


def summary(record: ArmRecord, paper: ArmRecord | None, steps: int) -> dict[str, Any]:
    """Return a record as JSON values: settings, numbers over clips, numbers per clip.

    Args:
        record: The record of an arm at a point.
        paper: The record of the paper's rule at the same point; None if it has not run.
        steps: Steps of the uncached run.
    """
    point = record.point
    head = {
        "arm": point.arm,
        "wanted_nfe": point.wanted,
        "setting": point.setting,
        "source": point.source,
        "calibration_nfe": point.calibration_nfe,
    }
    if not record.nfe:
        return head | {"problem": point.problem}
    mean = statistics.fmean(record.nfe)
    speedup = statistics.median(
        control / own for control, own in zip(record.control_seconds, record.seconds, strict=True)
    )
    result: dict[str, Any] = head | {
        "nfe_mean": mean,
        "nfe_p95": percentile_95(record.nfe),
        "wall_ratio": speedup,
        "wall_share": speedup / (steps / mean),
        "right": statistics.fmean(record.right) if record.right else None,
        "fit": statistics.fmean(record.fit) if record.fit else None,
        "to": {},
        "per_clip": {"nfe": record.nfe, "seconds": [round(s, 4) for s in record.seconds]},
    }
    for reference in record.distances:
        numbers: dict[str, Any] = {}
        for metric in DIGITS:
            values = record.values(reference, metric)
            if not values:
                continue
            numbers[metric] = asdict(interval(values)) | {
                "worst_decile": worst_decile([-v for v in values]) * -1
                if metric == "lpips"
                else worst_decile(values)
            }
            theirs = paper.values(reference, metric) if paper else []
            if theirs and paper is not record:
                difference = paired(values, theirs)
                numbers[metric]["against_paper"] = asdict(difference) | {"tie": difference.is_tie}
            kept = [round(value, DIGITS[metric]) for value in values]
            result["per_clip"].setdefault(reference, {})[metric] = kept
        result["to"][reference] = numbers
    return result


def paper_of(records: Sequence[ArmRecord], arm: str, wanted: int) -> ArmRecord | None:
    """Return the record of an arm at a point, None if it has not run."""
    for record in records:
        if record.point.arm == arm and record.point.wanted == wanted and record.nfe:
            return record
    return None
