"""Every line of the tables of failures, threats and findings names tests, and these exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
NOT_HELD = ("**Not defended.**", "**Not mended.**")
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def lines(page: str) -> list[tuple[str, str]]:
    """What each line of a page's tables says, and the cell that names its tests."""
    found = []
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[-1].rstrip(" |") != "Held by":
            found.append((" | ".join(cells[:-1]), cells[-1]))
    return found


LEAST = [("failures.md", 25), ("threats.md", 8), ("gpu_findings.md", 25)]
"""Pages, and the fewest lines that their tables have."""


@pytest.mark.parametrize(("page", "least"), LEAST)
def test_every_line_names_tests_that_exist(page: str, least: int) -> None:
    found = lines(page)
    assert len(found) >= least
    for said, held_by in found:
        names = TEST.findall(held_by)
        assert names or any(each in said for each in NOT_HELD), f"{page}: no test holds: {said}"
        run = [is_run_by_make_test(page, *each) for each in names]
        assert any(run) or not names, f"{page}: `make test` runs no test of: {said}"


def is_run_by_make_test(page: str, file: str, name: str) -> bool:
    """Whether a test, which must exist, is no variant as a whole."""
    tree = ast.parse((TESTS / file).read_text())
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert name in defined, f"{page}: there is no {file}::{name}"
    marks = [ast.unparse(mark) for mark in defined[name].decorator_list]
    return "pytest.mark.variant" not in marks
