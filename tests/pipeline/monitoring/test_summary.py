"""What a run prints before it starts and after it ends."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import rejected_row, to_table
from pipeline.models.resolve import resolve_model
from pipeline.monitoring.result import say_result
from pipeline.monitoring.summary import SIZE, counts_text, say_dry_run, say_input
from pipeline.monitoring.totals import RunTotals
from pipeline.requests.reasons import InputCounts
from pipeline.requests.run_settings import settings_text
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import SAMPLE


def said(cache: dict[str, Any], steps: dict[int, int]) -> str:
    config = RunConfig.model_validate(
        {"prompts": "p.txt", "output": "out", "cache": cache, "dry_run": True}
    )
    text = io.StringIO()
    counts = InputCounts(read=7, pending=sum(steps.values()))
    say_input(Console(file=text, width=200), config, resolve_model("demo"), counts, steps)
    return text.getvalue()


def test_a_plan_says_its_nfe_for_every_number_of_steps() -> None:
    text = said({"budget": 0.34}, {50: 5, 10: 2})
    assert "cache planned" in text
    assert "planned: exactly 3 of 10 steps computed (NFE) for each of 2 clips" in text
    assert "planned: exactly 17 of 50 steps computed (NFE) for each of 5 clips" in text


def test_a_plan_by_error_says_the_error() -> None:
    text = said({"max_error": 0.02}, {50: 5, 8: 2})
    assert (
        "planned: the fewest of 50 steps with a predicted error of at most 0.02 of the latents, "
        "the same number for each of 5 clips" in text
    )
    assert "planned: exactly 8 of 8 steps computed (NFE) for each of 2 clips" in text


def test_a_dry_run_says_what_is_left_and_what_it_would_cost(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    given: dict[str, Any] = {"prompts": "p.txt", "output": "out", "gpu_price_per_hour": 3.0}
    given |= {"dry_run": True, "cache": {"budget": 0.34}}

    def cost() -> str:
        text = io.StringIO()
        console = Console(file=text, width=400)
        run = RunConfig.model_validate(given)
        say_dry_run(console, run, storage, SAMPLE, (settings_text(SAMPLE),), 600, 600)
        return text.getvalue()

    unknown = "unknown until this prefix holds a first clip of these settings and of this size"
    assert unknown in cost()
    sink = PartWriter(storage, "r", part_rows=100, part_seconds=100)
    blank = rejected_row("0" * 20, "", "", "demo", "r", "")
    blank |= {name: getattr(SAMPLE, name) for name in SIZE} | {"settings": settings_text(SAMPLE)}

    def hold(*rows: dict[str, Any]) -> None:
        sink.add(to_table([blank | row for row in rows]))
        sink.flush()

    unlike: list[dict[str, Any]] = [{name: 1} for name in SIZE]
    hold(*({"status": "ok", "gpu_s": 99.0} | row for row in [*unlike, {"settings": "another"}]))
    assert unknown in cost()
    states = [("ok", 4.0), ("ok", 8.0), ("failed", 99.0), ("rejected", 0.0)]
    hold(*({"status": status, "gpu_s": seconds} for status, seconds in states))
    assert cost() == (
        "Cost of what is left: about 1 h 00 min of device time, $3.00, at 6.00 s a clip, the mean "
        "of the latest 2 such clips here\nDry run: nothing was made.\n"
    )


def test_failed_samples_of_earlier_runs_are_said() -> None:
    text = io.StringIO()
    config = RunConfig.model_validate({"prompts": "p.txt", "output": "out"})
    counts = InputCounts(read=9, pending=2, done=6, done_failed=1, rejected=1)
    say_input(Console(file=text, width=200), config, resolve_model("demo"), counts, {})
    assert "2 clips to make · 6 done before, 1 of them failed" in text.getvalue()
    assert "1 rejected" in text.getvalue()
    done = InputCounts(read=11, pending=1, done=12, done_controls=2)
    assert counts_text(done) == (
        "11 rows · 1 clip to make · 12 done before (2 controls among them)"
    )


def test_a_gate_says_what_hard_and_other_clips_compute() -> None:
    text = said({"budget": 0.34, "gate": 2}, {50: 5})
    assert "planned: 19 of 50 steps computed (NFE) for a hard clip and 16 for another" in text
    assert "17 in the mean if one in 3 is hard; 5 clips" in text


@pytest.mark.parametrize("cache", [{"policy": "none", "budget": 0.4}, {"policy": "paper"}])
def test_other_policies_promise_no_nfe(cache: dict[str, Any]) -> None:
    assert "NFE" not in said(cache, {50: 5})
    assert "NFE" not in said({"quality": "fast"}, {})


@pytest.mark.parametrize(("gpu_s", "told"), [(0.0, False), (2.0, True)])
def test_clips_without_device_time_have_no_throughput(gpu_s: float, told: bool) -> None:
    config = RunConfig.model_validate({"prompts": "p.txt", "output": "out"})
    text = io.StringIO()
    say_result(
        Console(file=text, width=200), config, RunTotals(ok=2, gpu_s=gpu_s, video_s=4.0), False
    )
    assert "2 ok, 0 failed, 0 rejected rows" in text.getvalue()
    assert ("7200 s of video per device-hour" in text.getvalue()) == told


@pytest.mark.parametrize(
    ("now", "in_all", "said"),
    [
        (0, 1, "1 rejected row (recorded before)"),
        (2, 3, "3 rejected rows (1 of them recorded before)"),
        (3, 3, "3 rejected rows\n"),
    ],
)
def test_a_rejected_row_that_an_earlier_run_recorded_is_counted(
    now: int, in_all: int, said: str
) -> None:
    """The end of a run and its beginning count the rejected rows of the input alike."""
    config = RunConfig.model_validate({"prompts": "p.txt", "output": "out"})
    text = io.StringIO()
    totals, console = RunTotals(rejected=now), Console(file=text, width=200)
    say_result(console, config, totals, False, rejected=in_all)
    lines = "\n".join(line.strip() for line in text.getvalue().splitlines())
    assert said in f"{lines}\n"


def test_one_of_a_thing_is_not_said_in_the_plural() -> None:
    config = RunConfig.model_validate(
        {"prompts": "p.txt", "output": "out", "cache": {"budget": 0.34}}
    )
    counts = InputCounts(read=1, pending=1, controls=1, duplicates=1, markers=1, unread_negatives=1)
    text = io.StringIO()
    say_input(Console(file=text, width=300), config, resolve_model("demo"), counts, {50: 1})
    say_result(Console(file=text, width=300), config, RunTotals(truncated=1, rejected=1), False)
    said = text.getvalue()
    assert "1 row · 1 clip to make, 1 uncached control among them · 0 done before" in said
    assert "1 duplicate (equal requests are made once)" in said
    assert "Read as empty: 1 cell with" in said
    assert "Left out: 1 negative prompt, because" in said
    assert "17 of 50 steps computed (NFE) for 1 clip\n" in said
    assert "0 failed, 1 rejected row " in said
    assert "the end of the prompt of 1 clip (" in said
