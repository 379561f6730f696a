"""The checks of the trials can fail, and a few trials hold; `make chaos` runs many."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset.committed import committed
from pipeline.report.pricing.prices import Prices
from pipeline.report.write import write_report
from pipeline.requests.seeds import draft_seed, first_seed
from pipeline.storage.storage import Storage
from tests.chaos.candidates import BEST_OF, GOOD, REDRAW, expected_rows
from tests.chaos.cluster import Cluster, running, wait_until
from tests.chaos.engine import grey_of
from tests.chaos.proxy import FAULTS
from tests.chaos.store import Store, serving
from tests.chaos.trial import KINDS, NO_CONDITIONS, RUN_S, SAMPLES, Scene, run_trial
from tests.chaos.verify import Attempt, Kill, judge, read_log, recovery_s

IDS = ("a", "b")
ROWS: list[dict[str, Any]] = [
    {"sample_id": i, "status": "ok", "media_sha256": f"hash of {i}", "video": {"path": i}}
    for i in IDS
]
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


def test_what_a_broken_node_killed_may_be_made_again_and_nothing_more() -> None:
    killed = Attempt("killed", ("b",), 1, 1)
    attempts = [begun(1, "b"), killed, begun(2.5, "b"), killed, begun(3, "b"), begun(4, "b")]
    assert judge(2, ROWS, HASHES, attempts, [Kill(2, frozenset("a"))]).holds
    again = [*attempts, begun(5, "b")]
    assert judge(2, ROWS, HASHES, again, [Kill(2, frozenset("a"))]).needless == ("b",)


def test_an_attempt_in_flight_may_be_made_again_once() -> None:
    attempts = [begun(1, "b"), begun(3, "b")]
    verdict = judge(2, ROWS, HASHES, attempts, [Kill(2, frozenset("a"))])
    assert verdict.holds
    assert verdict.wasted == 1


def chosen(*tries: tuple[int, int]) -> list[dict[str, Any]]:
    """Rows of tries at one clip, by their numbers and seeds."""
    return [
        {"caption": "p", "status": "ok", "candidate": number, "seed_u64": seed}
        for number, seed in tries
    ]


FIRST = first_seed(None, None, "p")
GOOD_SEED, BAD_SEED = 150, 50


def test_right_choices_are_accepted() -> None:
    later = chosen((2, BAD_SEED), (3, GOOD_SEED))
    rows = chosen((1, FIRST)) + ([] if grey_of(FIRST) >= GOOD else later)
    assert expected_rows(REDRAW, rows, ["p"]) == len(rows)
    seeds = [draft_seed(FIRST, place) for place in range(4)]
    best = max(range(4), key=lambda place: grey_of(seeds[place]))
    assert expected_rows(BEST_OF, chosen((best + 1, seeds[best])), ["p"]) == 1


@pytest.mark.parametrize(
    ("kind", "tries"),
    [
        (REDRAW, []),
        (REDRAW, [(1, 7)]),  # another seed than its own
        (REDRAW, [(2, GOOD_SEED)]),
        (REDRAW, [(1, FIRST), (2, GOOD_SEED), (3, GOOD_SEED)]),
        (REDRAW, [(1, FIRST), (2, BAD_SEED)]),
        (BEST_OF, []),
        (BEST_OF, [(1, 7)]),
    ],
)
def test_wrong_choices_are_seen(kind: str, tries: list[tuple[int, int]]) -> None:
    with pytest.raises(AssertionError):
        expected_rows(kind, chosen(*tries), ["p"])


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


@pytest.mark.variant
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flaky store", "driver", NO_CONDITIONS, REDRAW, BEST_OF])
def test_a_trial_holds(stage: tuple[Cluster, Store], kind: str) -> None:
    trial = run_trial(*stage, seed=list(KINDS).index(kind))
    assert trial.kind == kind
    assert trial.holds, trial
    if kind == "flaky store":
        met = stage[1].proxy.met
        assert sum(met[fault] for fault in FAULTS) > 5


@pytest.mark.variant
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


@pytest.mark.variant
@pytest.mark.slow
def test_a_node_that_kills_whatever_runs_on_it_costs_no_sample(
    stage: tuple[Cluster, Store], tmp_path: Path
) -> None:
    node = stage[0].node_id(1)
    scene = Scene(*stage, tmp_path, seed=10_002, kind="broken node")
    scene.ranks = False
    # One sample a task and one attempt each: failures are handed on before the node is known to be
    # bad. Longer tasks would run again as a whole elsewhere, and leave nothing to a second pass.
    scene.settings |= {"batch_rows": 1, "batches_per_task": 1, "max_attempts": 1}
    scene.start()
    wait_until(lambda: scene.makers() == 2 or scene.join(0) is not None, RUN_S, "two groups")
    scene.broken.write_text(node)
    try:
        assert scene.join(300) == 0, scene.said.read_text()
    finally:
        stage[0].kill_worker(1, gently=False)
        stage[0].replace_worker(1)
    rows = scene.result.rows()
    assert {row["status"] for row in rows} == {"ok"}
    assert len({row["sample_id"] for row in rows}) == len(rows) == SAMPLES
    said = scene.said.read_text()
    assert f"{node[:8]} killed whatever ran on it" in said
    killed = [attempt for attempt in read_log(scene.log) if attempt.event == "killed"]
    assert 3 <= len(killed) <= 6  # three samples showed it, two of which were given up before
    # Those that had been given up by then were made by a second pass, which made nothing else; so
    # may a process have done that the first pass started last.
    tried_again = re.search(r"Tried on other nodes now: (\d+) of the samples that died on ", said)
    assert tried_again
    victims = {sample_id for attempt in killed for sample_id in attempt.ids}
    made_by: dict[str, set[str]] = {}
    for row in rows:
        made_by.setdefault(row["worker"]["id"], set()).add(row["sample_id"])
    remade = [made for made in made_by.values() if made <= victims]
    assert sum(map(len, remade)) >= int(tried_again[1]) >= 1


@pytest.mark.variant
@pytest.mark.slow
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(10_003, id="conditional puts"),
        pytest.param(10_004, id="none", marks=pytest.mark.variant),
    ],
)
def test_two_runs_into_one_prefix_are_safe_and_the_second_one_says_so(
    stage: tuple[Cluster, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    with contextlib.ExitStack() as stack:
        if seed == 10_004:
            stack.enter_context(stage[1].lax())
        _two_runs(stage, tmp_path, monkeypatch, seed)


def _two_runs(
    stage: tuple[Cluster, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    scenes = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        scene = Scene(*stage, tmp_path / name, seed=seed, kind="none")
        scene.ranks, scene.call_s = False, 0.4
        scene.settings |= {"replicas": 1, "batch_rows": 1, "batches_per_task": 1, "part_rows": 5}
        scene.start()
        wait_until(lambda: scene.drawn() >= 3 or scene.join(0) is not None, RUN_S, name)  # noqa: B023
        scenes.append(scene)
    first, second = scenes
    assert [scene.join(300) for scene in scenes] == [0, 0], first.said.read_text()
    loud = "ANOTHER RUN WRITES INTO THIS PREFIX"
    assert loud in second.said.read_text()
    assert loud not in first.said.read_text()
    rows = first.result.rows()
    assert {row["status"] for row in rows} == {"ok"}
    hashes = first.result.hashes()
    assert len(hashes) == SAMPLES if seed == 10_003 else SAMPLES <= len(hashes) <= 2 * SAMPLES
    assert {(r["video"]["path"], r["media_sha256"]) for r in rows} <= set(hashes.items())
    assert len({r["sample_id"] for r in rows}) == SAMPLES
    drawn = Counter(i for s in scenes for a in read_log(s.log) if a.event == "begin" for i in a.ids)
    assert max(drawn.values()) <= 2
    for name, value in stage[1].env.items():
        monkeypatch.setenv(name, value)
    storage = Storage(first.output)
    assert len(committed(storage, retry_failed=True).ids) == SAMPLES
    totals = write_report(storage, Prices()).totals
    counted = (totals.rows, totals.ok, totals.superseded)
    assert counted == (len(rows), SAMPLES, len(rows) - SAMPLES)
    first.start()
    assert first.join(300) == 0
    assert "Everything is done already" in first.said.read_text()
