"""What of a mutant counts, and what a score says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mutmut", reason="mutmut is not installed: pip install -e '.[dev]'")

from tests.mutants.equal import Listed, read_listed
from tests.mutants.mutant import Mutant, mutants_of
from tests.mutants.score import score_of

SOURCE = '''
def price(seconds, dollars):
    """A price."""
    if seconds < 0:
        raise ValueError("a time is positive")
    return seconds * dollars
'''


@pytest.fixture
def mutants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Mutant]:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/till.py").write_text(SOURCE)
    (tmp_path / "pyproject.toml").write_text('[tool.mutmut]\nsource_paths = ["shop"]\n')
    monkeypatch.chdir(tmp_path)
    return mutants_of(Path("shop/till.py"))


def test_a_mutant_says_what_it_changes(mutants: list[Mutant]) -> None:
    (product,) = (each for each in mutants if "/" in each.new)
    assert product.function == "shop.till.price"
    assert product.old == "return seconds * dollars"
    assert product.new == "return seconds / dollars"


def test_mutants_of_sentences_do_not_count(mutants: list[Mutant]) -> None:
    prose = {each.new for each in mutants if each.is_prose}
    assert prose == {each.new for each in mutants if not each.counts}
    assert prose == {
        'raise ValueError("XXa time is positiveXX")',
        'raise ValueError("A TIME IS POSITIVE")',
    }


@pytest.mark.parametrize(
    ("new", "counts"),
    [
        ("dict(zip(a, b, strict=False))", False),
        ("dict(zip(a, b, strict=None))", False),
        ("dict(zip(a, b, ))", False),
        ("dict(zip(a, None, strict=True))", True),
        ("dict(zip(a, strict=True))", True),
    ],
)
def test_a_zip_that_does_not_compare_lengths_does_not_count(new: str, counts: bool) -> None:
    assert Mutant("n", "m", "m.f", "dict(zip(a, b, strict=True))", new).counts == counts


def test_a_score_is_the_share_of_what_could_be_noticed(mutants: list[Mutant]) -> None:
    counted = [each for each in mutants if each.counts]
    same, missed, *_ = counted
    listed = [
        Listed(same.function, same.old, same.new, "nobody can see it"),
        Listed("shop.till.price", "gone", "gone too", "an older version"),
        Listed("other.module.price", "gone", "gone too", "of another module"),
    ]
    score = score_of(mutants, mutants, {same.name, missed.name}, listed)
    assert (score.all, score.run) == (len(mutants), len(counted))
    assert (score.killed, score.equal) == (len(counted) - 2, 1)
    assert score.survived == [missed]
    assert score.stale == [listed[1]]
    assert score.percent == pytest.approx(100 * score.killed / (score.killed + 1))


def test_the_list_gives_a_reason_for_each_mutant() -> None:
    assert all(each.function and each.old != each.new and each.reason for each in read_listed())
