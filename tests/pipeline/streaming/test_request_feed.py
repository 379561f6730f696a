"""A thread hands tables over, a few at a time."""

from __future__ import annotations

import copy
import itertools
import pickle
import sys
import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest

from pipeline.streaming.request_feed import SWITCH_S, TABLES_AHEAD, RequestFeed

WAIT_S = 20.0


def tables(count: int, taken: list[int], last: threading.Event | None = None) -> Iterator[pa.Table]:
    for number in range(count):
        taken.append(number)
        if last is not None and len(taken) == TABLES_AHEAD + 1:
            last.set()
        yield pa.table({"n": [number]})


def test_it_reads_a_few_tables_ahead_and_loses_none() -> None:
    read: list[int] = []
    full = threading.Event()
    feed = RequestFeed(tables(50, read, full))
    feed.start()
    assert full.wait(WAIT_S)
    time.sleep(0.01)
    assert len(read) <= TABLES_AHEAD + 1
    found = []
    while not feed.is_over:
        table = feed.next(0.1)
        found += [] if table is None else table["n"].to_pylist()
        assert len(read) <= len(found) + TABLES_AHEAD + 1
    assert found == list(range(50))
    assert feed.error is None


def test_an_error_comes_after_the_tables_before_it() -> None:
    def torn() -> Iterator[pa.Table]:
        yield pa.table({"n": [0]})
        raise ValueError("torn")

    feed = RequestFeed(torn())
    feed.start()
    assert feed.next(WAIT_S) is not None
    while not feed.is_over:
        assert feed.next(0.05) is None
    assert str(feed.error) == "torn"


def test_it_stops_reading_when_it_is_closed() -> None:
    read: list[int] = []
    full = threading.Event()
    feed = RequestFeed(tables(1000, read, full))
    feed.start()
    assert full.wait(WAIT_S)
    feed.close()
    feed._thread.join(WAIT_S)
    assert feed.is_read
    assert len(read) < 1000


def test_it_stops_among_rows_that_are_all_done() -> None:
    feed = RequestFeed(itertools.repeat(None))
    feed.start()
    feed.close()
    feed._thread.join(WAIT_S)
    assert feed.is_over


def test_the_other_threads_wait_less_while_it_reads() -> None:
    before, seen = sys.getswitchinterval(), []

    def looking() -> Iterator[pa.Table]:
        seen.append(sys.getswitchinterval())
        yield pa.table({"n": [0]})

    feed = RequestFeed(looking())
    feed.start()
    feed._thread.join(WAIT_S)
    assert seen == [pytest.approx(SWITCH_S)]
    assert sys.getswitchinterval() == pytest.approx(before)
    assert before > SWITCH_S


def test_copies_here_are_the_feed_itself() -> None:
    feed = RequestFeed(iter(()))
    assert pickle.loads(pickle.dumps(feed)) is feed
    assert copy.deepcopy(feed) is feed
