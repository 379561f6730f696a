"""Running a model that checks prompts and clips without its checker: only where it is asked for."""

from __future__ import annotations

import pytest

from pipeline.errors import UserError
from pipeline.models.catalogue import safety_checker
from pipeline.models.catalogue.safety_checker import check_safety_checker


def test_a_checker_that_is_not_installed_is_said_with_both_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(safety_checker, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install cosmos_guardrail") as caught:
        check_safety_checker("own", "my-cosmos", has_one=True)
    assert "--engine.safety-checker off" in str(caught.value)
    assert "\n" not in str(caught.value)
    check_safety_checker("off", "my-cosmos", has_one=True)
    check_safety_checker("own", "my-wan", has_one=False)


def test_an_installed_checker_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety_checker, "find_spec", lambda name: object())
    check_safety_checker("own", "my-cosmos", has_one=True)


def test_a_model_without_a_checker_cannot_leave_it_out() -> None:
    with pytest.raises(UserError, match="my-wan has no safety checker; leave it out"):
        check_safety_checker("off", "my-wan", has_one=False)
