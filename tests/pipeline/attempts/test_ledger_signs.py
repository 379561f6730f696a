"""What the ledger takes for a sign that a node, a process or a sample is sound or is not."""

from __future__ import annotations

import uuid

import pytest

from pipeline.attempts.bad_nodes import VICTIMS
from pipeline.attempts.ledger import RETURNS, Ledger
from pipeline.storage.storage import Storage


@pytest.fixture
def ledger() -> Ledger:
    storage = Storage(f"memory://signs-{uuid.uuid4().hex}")
    return Ledger(storage, "r", max_attempts=3)


def fail(ledger: Ledger, sample_id: str, where: str) -> None:
    ledger.claim([sample_id], where)
    ledger.note([sample_id], "ValueError", "no")


def make(ledger: Ledger, sample_id: str, where: str) -> None:
    ledger.claim([sample_id], where)
    ledger.made([sample_id])
    ledger.finish([sample_id], ["ok"])


def kill(ledger: Ledger, sample_id: str, where: str) -> None:
    """Let a sample die alone in a process; the next claim, in the same node, shows it."""
    ledger.claim([sample_id], where)
    ledger.claim([sample_id], f"{where}+")


def test_a_process_that_proves_itself_is_not_to_blame_for_its_failures(ledger: Ledger) -> None:
    for sample_id, where in (("a", "n/1"), ("b", "n/1"), ("c", "n/2")):
        fail(ledger, sample_id, where)
    assert ledger.unproven(["a", "b", "c"]) == ["a", "b", "c"]
    ledger.proven(["a", "c"], "n/1")  # c failed in another process
    assert ledger.unproven(["a", "b", "c"]) == ["b", "c"]


def test_a_clip_proves_its_process_for_what_failed_there_before(ledger: Ledger) -> None:
    fail(ledger, "a", "n/1")
    make(ledger, "good", "n/2")
    assert ledger.unproven(["a"]) == ["a"]
    make(ledger, "better", "n/1")
    assert ledger.unproven(["a"]) == []


def test_a_clip_that_was_found_proves_nothing(ledger: Ledger) -> None:
    fail(ledger, "a", "n/1")
    ledger.claim(["b"], "n/1")
    ledger.taken_over(["b"])
    ledger.finish(["b"], ["ok"])
    assert ledger.unproven(["a"]) == ["a"]
    ledger.claim(["c"], "n/1")
    ledger.finish(["c"], ["failed"])
    assert ledger.unproven(["a"]) == ["a"]


def test_a_node_is_bad_by_the_samples_that_its_processes_died_under(ledger: Ledger) -> None:
    make(ledger, "good", "m/1")  # so it is not the samples
    victims = [f"v{number}" for number in range(VICTIMS)]
    for number, sample_id in enumerate(victims):
        assert ledger.bad_nodes() == {}
        kill(ledger, sample_id, f"n/{number}")
    assert ledger.bad_nodes() == {"n": victims}
    refused = ledger.claim(["w"], "n/9")
    assert (refused.granted, refused.bad_node) == (False, True)
    assert ledger.claim(["w"], "m/2").granted


def test_a_broken_process_counts_against_its_node_under_its_latest_sample(ledger: Ledger) -> None:
    make(ledger, "good", "m/1")
    for number in range(VICTIMS):
        samples = [f"{kind}{number}" for kind in "ab"]
        for sample_id in samples:
            fail(ledger, sample_id, f"n/{number}")
        assert ledger.broken(samples, f"n/{number}", "no memory") == ""
    assert ledger.bad_nodes() == {"n": [f"b{number}" for number in range(VICTIMS)]}


def test_what_a_broken_process_failed_at_gets_its_attempts_back_a_few_times(
    ledger: Ledger,
) -> None:
    for number in range(RETURNS + 1):
        fail(ledger, "a", f"n/{number}")
        ledger.broken(["a"], f"n/{number}", "no memory")
    assert ledger.claim(["a"], "n/9").attempts == [2]  # the last one was not given back


def test_a_node_that_makes_a_clip_is_no_longer_in_doubt(ledger: Ledger) -> None:
    kill(ledger, "a", "n/1")
    assert ledger.doubtful(["a", "x"]) == {"n": ["a"]}
    make(ledger, "good", "n/2")
    assert ledger.doubtful(["a"]) == {}


def test_seconds_that_were_lost_add_up(ledger: Ledger) -> None:
    ledger.claim(["a"], "n/1")
    ledger.note(["a"], "E", "no", 1.5)
    ledger.spent(["a", "unknown"], 2.0)
    ledger.note(["a"], "E", "no", 0.25)
    assert ledger.claim(["a"], "n/2").lost_s == [3.75]


def test_a_claim_that_stops_the_run_says_why() -> None:
    storage = Storage(f"memory://signs-{uuid.uuid4().hex}")
    ledger = Ledger(storage, "r", max_attempts=3)
    for number in range(9):
        samples = [f"{number}{kind}" for kind in "abc"]
        for sample_id in samples:
            fail(ledger, sample_id, f"n/{number}")
        if why := ledger.broken(samples, f"n/{number}", "no memory"):
            break
    assert number == 2  # three processes, nine samples
    assert why.startswith("3 processes in a row ended under 9 different samples")
    assert "the latest: no memory." in why
    claim = ledger.claim(["next"], "m/1")
    assert (claim.granted, claim.hopeless) == (False, why)
    going_on = Ledger(storage, "r2", max_attempts=3, stops=False)
    for sample_id in "abcdefghi":
        fail(going_on, sample_id, f"n/{sample_id}")
        assert going_on.broken([sample_id], f"n/{sample_id}", "no memory") == ""
