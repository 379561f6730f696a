"""Progress away from a terminal and on one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jobs.benchmarks.quality import progress_line as module
from jobs.benchmarks.quality.progress_line import show_progress


def test_away_from_a_terminal_lines_tell_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_EVERY_S", 20.0)
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    shown = io.StringIO()
    with show_progress(Console(file=shown, width=100), "clips") as watch:
        watch.show(0, 10)
        now = 110.0
        watch.show(1, 10)  # too soon to say anything
        now = 125.0
        watch.show(5, 10, "planned")
        now = 150.0
    assert shown.getvalue().splitlines() == ["clips planned: 50%, 25 s, 25 s left", "clips: 50 s"]


def test_on_a_terminal_a_bar_goes_and_one_line_stays() -> None:
    shown = io.StringIO()
    with show_progress(Console(file=shown, width=100, force_terminal=True), "clips") as watch:
        watch.show(5, 10, "planned")
        assert watch.bar is not None
        assert watch.bar.tasks[0].percentage == 50
    assert "clips: 0 s" in shown.getvalue()
