"""What `pipeline.monitoring.prometheus` counts beside the numbers of a report of the same rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.report.document import Report

PARTS = ("clips", "controls", "failed_attempts")
"""Of what was spent; loading and idle time are known to the report alone."""


def against_report(report: Report, value: Callable[..., float]) -> dict[str, tuple[float, float]]:
    """Series that say something else than the report: name to both numbers.

    Args:
        report: Of a prefix that one run wrote, with a price; no row supersedes another.
        value: Looks a series up by its name without Ray's prefix, and labels in their order.
    """
    totals, money = report.totals, report.dollars
    samples = "sencache_samples_total"
    steps = "sencache_steps_total"
    told = [
        (samples, {"status": "ok", "role": "clip"}, totals.ok),
        (samples, {"status": "ok", "role": "control"}, totals.controls),
        (samples, {"status": "failed", "role": "clip"}, totals.failed),
        (samples, {"status": "failed", "role": "control"}, totals.controls_failed),
        (samples, {"status": "rejected", "role": "clip"}, totals.rejected),
        (steps, {"verdict": "computed"}, totals.nfe),
        (steps, {"verdict": "reused"}, totals.steps - totals.nfe),
        ("sencache_clip_seconds_total", {}, totals.video_s),
        # Attempts beyond the first, and the first of each that never succeeded.
        (
            "sencache_failed_attempts_total",
            {},
            totals.extra_attempts + totals.failed + totals.controls_failed,
        ),
        *(
            ("sencache_row_device_seconds_total", {"spent": part}, getattr(report.device_s, part))
            for part in PARTS
        ),
    ]
    if money is not None:
        told += [
            ("sencache_cost_dollars_total", {"spent": part}, getattr(money, part)) for part in PARTS
        ]
    return {
        f"{name}{labels}": (value(name, **labels), wanted)
        for name, labels, wanted in told
        if value(name, **labels) != pytest.approx(wanted)
    }
