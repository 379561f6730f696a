"""A measurement that was interrupted goes on with the prompts that are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.benchmarks.candidates.kept import KeptPrompts
from pipeline.errors import UserError


def test_whole_lines_are_read_again_and_a_torn_one_is_not(tmp_path: Path) -> None:
    kept = KeptPrompts(tmp_path / "new" / "k.jsonl", {"seeds": 8, "budgets": (5, 6)})
    assert kept.read() == []
    kept.add({"a": 1})
    kept.add({"b": 2})
    with kept.path.open("a") as file:
        file.write('{"c": ')
    assert kept.read() == [{"a": 1}, {"b": 2}]
    kept.add({"c": 3})
    assert kept.read() == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_prompts_of_other_settings_are_not_taken(tmp_path: Path) -> None:
    KeptPrompts(tmp_path / "k.jsonl", {"seeds": 8}).read()
    with pytest.raises(UserError, match="other settings"):
        KeptPrompts(tmp_path / "k.jsonl", {"seeds": 4}).read()
