from __future__ import annotations

import uuid

import pytest

from pipeline.attempts.bad_nodes import BadNodes
from pipeline.attempts.ledger import Ledger
from pipeline.storage.storage import Storage


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Storage(f"memory://bad-nodes-{uuid.uuid4().hex}"), "run", max_attempts=3)


def test_different_victims_without_a_clip_in_between_show_a_bad_node() -> None:
    nodes = BadNodes()
    nodes.made("other")
    assert [nodes.died("n", sample) for sample in "aab"] == [False] * 3
    nodes.made("n")
    assert [nodes.died("n", sample) for sample in "abba"] == [False] * 4
    assert not nodes.died("other", "c")
    assert nodes.died("n", "c")
    assert nodes.is_bad("n")
    assert not nodes.is_bad("other")
    assert nodes.bad() == {"n": ["a", "b", "c"]}
    assert not nodes.died("n", "d")


def test_a_node_is_not_blamed_where_no_other_makes_clips() -> None:
    """Nothing tells it from bad samples then, and no other node could take over."""
    nodes = BadNodes()
    nodes.made("n")
    assert [nodes.died("n", sample) for sample in "abcd"] == [False] * 4
    nodes.made("other")
    assert nodes.died("n", "d")


def die(ledger: Ledger, sample: str, node: str, process: int) -> bool:
    """Make one attempt whose process dies; return whether it was granted."""
    return ledger.claim([sample], f"{node}/{process}").granted


def test_the_samples_of_a_bad_node_get_their_attempts_back(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.claim(["fine"], "good/1")
    ledger.made(["fine"])
    process = 0
    for sample in "ab":  # one fewer than VICTIMS: they are given up
        for _ in range(3):
            process += 1
            assert die(ledger, sample, "bad", process)
        assert not ledger.claim([sample], f"bad/{process + 1}").granted
    assert die(ledger, "c", "bad", process + 1)
    assert die(ledger, "c", "bad", process + 2) is False  # its death shows the node
    assert "made nothing in between" in caplog.text
    assert ledger.claim(["d"], "bad/99").bad_node
    assert list(ledger.bad_nodes()) == ["bad"]
    for sample in "abcd":
        claim = ledger.claim([sample], "good/1")
        assert (claim.granted, claim.attempts) == (True, [1])
    refused = ledger.claim(["e"], "bad/100")
    assert (refused.granted, refused.bad_node) == (False, True)


def test_what_a_bad_node_had_made_is_looked_for_and_not_made_again(ledger: Ledger) -> None:
    ledger.claim(["fine"], "good/1")
    ledger.made(["fine"])
    ledger.claim(["x", "y"], "bad/0")
    ledger.made(["x", "y"])  # and stored; their rows went down with the task
    for sample in "abc":
        assert die(ledger, sample, "bad", 1)
    for process, sample in enumerate("ab"):
        assert die(ledger, sample, "bad", 2 + process)
    assert ledger.claim(["c"], "bad/9").bad_node
    assert not ledger.claim(["x", "y"], "good/1").granted
    assert ledger.claim(["x"], "good/1").attempts == [2]
    assert ledger.claim(["a"], "good/1").attempts == [1]


def retried(ledger: Ledger, where: str) -> bool:
    """Run a task of a batch and one more sample, and store the batch; return whether it goes on."""
    if ledger.claim(["x", "y"], where).bad_node:
        return False
    for stored in "xy":
        assert ledger.claim([stored], where).attempts[0] > 1
        ledger.taken_over([stored])
    return ledger.claim(["poison"], where).granted


def test_clips_that_are_taken_over_again_and_again_blame_no_node(ledger: Ledger) -> None:
    ledger.claim(["fine"], "good/1")
    ledger.made(["fine"])
    ledger.claim(["x", "y"], "n/0")
    ledger.made(["x", "y"])
    tries = [retried(ledger, f"n/{process}") for process in range(1, 5)]
    assert tries == [True, True, True, False]  # the poison used up its attempts, and nothing else
    assert ledger.bad_nodes() == {}


def test_taking_clips_over_does_not_show_that_a_node_works(ledger: Ledger) -> None:
    ledger.claim(["fine"], "good/1")
    ledger.made(["fine"])
    ledger.claim(["x", "y"], "bad/0")
    ledger.made(["x", "y"])
    for process in range(1, 4):
        assert retried(ledger, f"bad/{process}")
    assert not retried(ledger, "bad/4")
    assert ledger.doubtful(["poison"]) == {"bad": ["poison"]}
    for process, sample in enumerate("ab"):
        assert die(ledger, sample, "bad", 5 + process)
        ledger.claim([sample], f"bad/{7 + process}")
    assert ledger.bad_nodes() == {"bad": ["a", "b", "poison"]}
    assert not ledger.claim(["x", "y"], "good/2").granted  # their clips are looked for


def test_poison_samples_one_after_another_do_not_blame_a_node_that_works(ledger: Ledger) -> None:
    process = 0
    for poison in range(10):
        for _ in range(3):
            process += 1
            assert die(ledger, f"poison {poison}", "n", process)
        assert not ledger.claim([f"poison {poison}"], f"n/{process + 1}").granted
        ledger.claim([f"fine {poison}"], f"n/{process + 1}")
        if poison % 2:
            ledger.made([f"fine {poison}"])
        else:  # its row can arrive before the worker says so
            ledger.finish([f"fine {poison}"], ["ok"])
    assert ledger.bad_nodes() == {}


def test_neither_exceptions_nor_batches_nor_lost_rows_are_deaths_under_a_sample(
    ledger: Ledger,
) -> None:
    for number in range(10):
        sample = f"s{number}"
        ledger.claim([sample, f"t{number}"], f"n/{number}")  # a batch dies
        ledger.claim([sample], f"n/{number}b")
        ledger.note([sample], "ValueError", "no")
        ledger.claim([sample], f"n/{number}b")  # the same process goes on
        ledger.made([sample])
        ledger.claim([sample], f"n/{number}c")  # its row was lost
        ledger.made([sample])
    assert ledger.bad_nodes() == {}


def test_another_node_gives_a_sample_its_attempts_back_once(ledger: Ledger) -> None:
    for process in range(3):
        assert die(ledger, "a", "one", process)
    assert not ledger.claim(["a"], "one/9").granted
    for process in range(3):
        assert die(ledger, "a", "two", process)
    assert not ledger.claim(["a"], "two/9").granted
    assert not ledger.claim(["a"], "three/1").granted


def test_no_attempt_comes_back_from_a_node_that_works(ledger: Ledger) -> None:
    for process in range(3):
        assert die(ledger, "a", "one", process)
    ledger.claim(["b"], "one/8")
    ledger.claim(["a"], "one/9")
    ledger.made(["b"])
    assert not ledger.claim(["a"], "two/1").granted
