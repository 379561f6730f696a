"""What a run says before it starts."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pipeline.config import RunConfig
from pipeline.intake import InputCounts
from pipeline.models.resolve import resolve_model
from pipeline.summary import say_input


def said(cache: dict[str, Any], steps: dict[int, int]) -> str:
    config = RunConfig.model_validate(
        {"prompts": "p.txt", "output": "out", "cache": cache, "dry_run": True}
    )
    text = io.StringIO()
    counts = InputCounts(read=7, pending=sum(steps.values()))
    say_input(Console(file=text, width=200), config, resolve_model("demo"), counts, steps)
    return text.getvalue()


def test_a_plan_says_its_nfe_for_every_number_of_steps() -> None:
    text = said({"quality": "balanced"}, {50: 5, 10: 2})
    assert "cache planned" in text
    assert "planned: exactly 3 of 10 steps computed (NFE) for each of 2 clips" in text
    assert "planned: exactly 17 of 50 steps computed (NFE) for each of 5 clips" in text
    assert "nothing was made" in text


def test_a_gate_says_what_hard_and_other_clips_compute() -> None:
    text = said({"budget": 0.34, "gate": 2}, {50: 5})
    assert "planned: 19 of 50 steps computed (NFE) for a hard clip and 16 for another" in text
    assert "17 in the mean if one in 3 is hard; 5 clips" in text


@pytest.mark.parametrize("cache", [{"policy": "none", "budget": 0.4}, {"policy": "paper"}])
def test_other_policies_promise_no_nfe(cache: dict[str, Any]) -> None:
    assert "NFE" not in said(cache, {50: 5})
    assert "NFE" not in said({"quality": "fast"}, {})
