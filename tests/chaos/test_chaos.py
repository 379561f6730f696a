"""The checks of the trials can fail, and a few trials hold; `make chaos` runs many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.cluster import Cluster, running
from tests.chaos.proxy import FAULTS
from tests.chaos.store import Store, serving
from tests.chaos.trial import KINDS, Scene, run_trial
from tests.chaos.verify import Attempt, Kill, judge, read_log, recovery_s

IDS = ("a", "b")
ROWS = [{"sample_id": i, "status": "ok", "media_sha256": f"hash of {i}"} for i in IDS]
HASHES = {i: f"hash of {i}" for i in IDS}


def begun(at: float, *ids: str) -> Attempt:
    return Attempt("begin", ids, at, 1)


def test_a_clean_trial_holds() -> None:
    verdict = judge(2, ROWS, HASHES, [begun(1, "a", "b")], [Kill(2, frozenset())])
    assert verdict.holds
    assert verdict.wasted == 0


@pytest.mark.parametrize(
    ("rows", "hashes", "attempts", "what"),
    [
        (ROWS[:1], HASHES, [], "lost"),
        ([ROWS[0], ROWS[1] | {"status": "failed"}], HASHES, [], "lost"),
        ([*ROWS, ROWS[0]], HASHES, [], "duplicated"),
        (ROWS, HASHES | {"a": "other"}, [], "torn"),
        (ROWS, {"a": HASHES["a"]}, [], "torn"),
        (ROWS, HASHES, [begun(1, "a"), begun(3, "a")], "needless"),  # stored before the kill
        (ROWS, HASHES, [begun(1, "b"), begun(3, "b"), begun(4, "b")], "needless"),
    ],
)
def test_every_broken_promise_is_seen(
    rows: list[dict[str, Any]], hashes: dict[str, str], attempts: list[Attempt], what: str
) -> None:
    verdict = judge(2, rows, hashes, attempts, [Kill(2, frozenset("a"))])
    assert not verdict.holds
    assert getattr(verdict, what)


def test_an_attempt_in_flight_may_be_made_again_once() -> None:
    attempts = [begun(1, "b"), begun(3, "b")]
    verdict = judge(2, ROWS, HASHES, attempts, [Kill(2, frozenset("a"))])
    assert verdict.holds
    assert verdict.wasted == 1


def test_recovery_ends_with_the_next_clip_or_the_run() -> None:
    attempts = [Attempt("end", IDS, 1, 1), begun(2.5, "a"), Attempt("end", ("a",), 4, 1)]
    assert recovery_s(attempts, Kill(2, frozenset()), ended=9) == 2
    assert recovery_s(attempts, Kill(5, frozenset()), ended=9) == 4


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_log(log) == []
    log.write_text('{"event": "begin", "ids": ["a"], "at": 1.0, "pid": 7}\n{"event": "en')
    assert read_log(log) == [Attempt("begin", ("a",), 1.0, 7)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Store]]:
    with serving(tmp_path_factory.mktemp("s3")) as store, running(2, store.env) as cluster:
        yield cluster, store


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["driver", "flaky store"])
def test_a_trial_holds(stage: tuple[Cluster, Store], kind: str) -> None:
    trial = run_trial(*stage, seed=list(KINDS).index(kind))
    assert trial.kind == kind
    assert trial.holds, trial
    if kind == "flaky store":
        met = stage[1].proxy.met
        assert sum(met[fault] for fault in FAULTS) > 5


@pytest.mark.slow
def test_a_run_asks_the_store_once_per_sample(stage: tuple[Cluster, Store], tmp_path: Path) -> None:
    """And besides a fixed number of times at its ends, and once per part."""
    scene = Scene(*stage, tmp_path, seed=10_000, kind="none")
    scene.settings |= {"part_seconds": 1000.0, "part_rows": 16}
    scene.start()
    assert scene.join(300) == 0, scene.said.read_text()
    asked = [line.split() for line in stage[1].requests("trial-10000")]
    media = [path for _, path in asked if "/media/" in path]
    parts = [path for method, path in asked if "/data/part-" in path and method == "PUT"]
    rows = len(scene.result.rows())
    assert len(media) == rows
    assert len(parts) == -(-rows // 16)
    assert len(asked) - len(media) - len(parts) <= 20, asked
