"""Which failures wait for a second try, and what becomes of them, with the real ledger."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Collection, Iterable

import pyarrow as pa
import pytest

from pipeline.attempts.ledger import Ledger
from pipeline.attempts.second_tries import requests_for, settled
from pipeline.requests.controls import control_for, pack, unpack
from pipeline.requests.sample_request import CacheIdentity
from pipeline.storage.storage import Storage
from tests.pipeline.attempts.runners import requests

Rows = list[tuple[str, str]]


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger(Storage(f"memory://opinion-{uuid.uuid4().hex}"), "run", max_attempts=2)
    make(made, "warm", "good/0")
    return made


def make(ledger: Ledger, sample: str, where: str) -> None:
    assert ledger.claim([sample], where).granted
    ledger.made([sample])


def give_up(ledger: Ledger, sample: str, node: str) -> None:
    """Let a sample use up its attempts by killing its process."""
    for process in range(2):
        assert ledger.claim([sample], f"{node}/{sample}{process}").granted
    assert not ledger.claim([sample], f"{node}/{sample}2").granted


def table(*rows: tuple[str, str]) -> pa.Table:
    ids, statuses = zip(*rows, strict=True)
    return pa.table({"sample_id": ids, "status": statuses})


def opinion(
    ledger: Ledger,
    made: Iterable[pa.Table],
    elsewhere: Callable[[Collection[str], Collection[str]], Iterable[pa.Table]],
) -> Rows:
    tables = list(settled(made, ledger, elsewhere))
    assert all(each.num_rows for each in tables)
    return [(row["sample_id"], row["status"]) for each in tables for row in each.to_pylist()]


def nowhere(ids: Collection[str], nodes: Collection[str]) -> Iterable[pa.Table]:
    raise AssertionError(f"{ids} need no second try")


def test_failures_of_a_node_that_works_are_final_at_once(ledger: Ledger) -> None:
    give_up(ledger, "poison", "good")
    make(ledger, "fine", "good/9")
    rows = [("poison", "failed"), ("fine", "ok"), ("odd", "rejected")]
    assert opinion(ledger, [table(*rows)], nowhere) == rows


def test_what_died_on_a_node_that_makes_nothing_is_made_elsewhere(ledger: Ledger) -> None:
    give_up(ledger, "a", "bad")
    give_up(ledger, "b", "bad")
    asked: list[tuple[list[str], list[str]]] = []

    def elsewhere(ids: Collection[str], nodes: Collection[str]) -> Iterable[pa.Table]:
        asked.append((sorted(ids), list(nodes)))
        for sample in sorted(ids):
            make(ledger, sample, "good/1")  # its attempts are back
            yield table((sample, "ok"))

    first = [table(("a", "failed"), ("c", "ok")), table(("b", "failed"))]
    assert opinion(ledger, first, elsewhere) == [("c", "ok"), ("a", "ok"), ("b", "ok")]
    assert asked == [(["a", "b"], ["bad"])]


def test_a_failure_is_final_when_its_node_turns_out_to_work(ledger: Ledger) -> None:
    give_up(ledger, "poison", "n")

    def made() -> Iterable[pa.Table]:
        yield table(("poison", "failed"))
        make(ledger, "fine", "n/9")
        yield table(("fine", "ok"))

    assert opinion(ledger, made(), nowhere) == [("fine", "ok"), ("poison", "failed")]


def test_failures_of_a_bad_node_are_doubted_though_its_samples_were_pardoned(
    ledger: Ledger,
) -> None:
    for sample in "ab":
        give_up(ledger, sample, "bad")
    ledger.claim(["c"], "bad/1")
    assert ledger.claim(["c"], "bad/2").bad_node
    assert ledger.doubtful(["a", "b", "warm", "unknown"]) == {"bad": ["a", "b"]}
    rows = opinion(
        ledger,
        [table(("a", "failed"), ("b", "failed"))],
        lambda ids, nodes: [table(*((sample, "ok") for sample in sorted(ids)))],
    )
    assert rows == [("a", "ok"), ("b", "ok")]


def test_without_another_node_the_failures_are_the_rows(ledger: Ledger) -> None:
    give_up(ledger, "a", "bad")
    first = [table(("a", "failed"), ("b", "ok"))]
    assert opinion(ledger, first, lambda ids, nodes: ()) == [("b", "ok"), ("a", "failed")]
    assert ledger.doubtful(["a"]) == {}  # finished


def test_a_second_opinion_is_the_last(ledger: Ledger) -> None:
    give_up(ledger, "poison", "one")
    calls = 0

    def elsewhere(ids: Collection[str], nodes: Collection[str]) -> Iterable[pa.Table]:
        nonlocal calls
        calls += 1
        give_up(ledger, "poison", "two")
        yield table(("poison", "failed"))

    assert opinion(ledger, [table(("poison", "failed"))], elsewhere) == [("poison", "failed")]
    assert calls == 1


def test_requests_of_some_samples_are_found_with_what_was_packed_beside_them_left_out() -> None:
    cached = [
        dataclasses.replace(each, cache=CacheIdentity("planned")) for each in requests(*"abc")
    ]
    units = [[each, control_for(each)] for each in cached]
    tables = [pa.table({"request": [pack(unit) for unit in units[:2]]})]
    tables.append(pa.table({"request": [pack(units[2])]}))
    wanted = [units[0][0], *units[2]]
    found = requests_for(tables, [each.sample_id for each in wanted])
    assert [each.num_rows for each in found] == [1, 1]
    got = [each for t in found for text in t["request"].to_pylist() for each in unpack(text)]
    assert got == wanted
    assert requests_for(tables, ["none of them"]) == []
