"""Groups of real processes: answers, and every way of losing a rank."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.ranks import failures
from pipeline.ranks.failures import (
    GroupBrokenError,
    GroupError,
    RankDiedError,
    RankRaisedError,
    RankSilentError,
)
from pipeline.ranks.group import RankGroup
from pipeline.ranks.processes import GroupSpec
from pipeline.ranks.timeouts import AdaptiveTimeout
from tests.pipeline.ranks import group_workers

Start = Callable[..., RankGroup]


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 300.0) -> bool:
    """Poll a condition; machines may be slow, so the limit is far off."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def start() -> Iterator[Start]:
    groups: list[RankGroup] = []

    def make(worker: Any = group_workers.obedient, size: int = 2, **settings: Any) -> RankGroup:
        groups.append(RankGroup(worker, GroupSpec(size), **settings))
        return groups[-1]

    yield make
    for group in groups:
        group.close()


def test_every_rank_gets_the_request_and_rank_0_answers(start: Start) -> None:
    group = start(size=3)
    assert group.ask("hello") == "hello from 0 of 3"
    assert group.ask("again") == "again from 0 of 3"
    assert len(set(group.processes)) == 3
    before = len(list(Path("/proc/self/fd").iterdir()))
    frames = group.ask("frames")
    assert [(clip.shape, clip.min(), clip.max()) for clip in frames] == [
        ((4, 512, 512, 3), value, value) for value in (1, 2)
    ]
    assert "memfd:clips" in Path("/proc/self/maps").read_text()  # they came through no socket
    del frames
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert "memfd:clips" not in Path("/proc/self/maps").read_text()


@pytest.mark.slow
def test_ranks_meet_in_collectives_and_no_port_can_be_taken_from_them(start: Start) -> None:
    with socket.socket() as taken:  # torch's own default
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # another process has it, which is as good
            taken.bind(("127.0.0.1", 29500))
            taken.listen()
        groups = [start(group_workers.summing, size=2) for _ in range(2)]
        ports = [group._store.port for group in groups]
        assert len({*ports, 29500}) == 3
        for port in ports:  # held by the owner of the group, from before its ranks are started
            with socket.socket() as thief, pytest.raises(OSError, match="in use"):
                thief.bind(("127.0.0.1", port))
        assert [group.ask(number) for number in (1.0, 2.5) for group in groups] == [3, 3, 7.5, 7.5]


@pytest.mark.parametrize(
    ("order", "error", "says"),
    [
        ((1, "kill"), RankDiedError, "rank 1 was killed by SIGKILL"),
        ((1, "exit"), RankDiedError, "exit code 7; its last output:\nabout to leave"),
        ((1, "torn"), RankDiedError, "rank 1 was killed by SIGKILL"),
        ((0, "torn"), RankDiedError, "rank 0 was killed by SIGKILL"),
        ((0, "torn frames"), RankDiedError, "rank 0 was killed by SIGKILL"),
    ],
)
def test_a_lost_rank_ends_the_group_and_is_named(
    start: Start, order: Any, error: type[Exception], says: str
) -> None:
    check_lost(start, order, error, says)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the owner wait only briefly for more from ranks that have nothing more to say."""
    monkeypatch.setattr(failures, "SETTLE_S", 0.1)
    monkeypatch.setattr(failures, "END_S", 0.1)


@pytest.mark.parametrize(
    ("order", "error", "says"),
    [
        ((1, "raise"), RankRaisedError, "rank 1 was told to"),
        ((1, "unreadable"), GroupBrokenError, "a message of rank 1 cannot be read: ValueError"),
    ],
)
def test_a_rank_that_fails_but_lives_ends_the_group_and_is_named(
    start: Start, impatient: None, order: Any, error: type[Exception], says: str
) -> None:
    check_lost(start, order, error, says)


def check_lost(start: Start, order: Any, error: type[Exception], says: str) -> None:
    group = start()
    pids = group.processes
    with pytest.raises(error) as caught:
        group.ask(order)
    assert says in str(caught.value)
    assert not group.alive
    assert not any(is_running(pid) for pid in pids)
    with pytest.raises(GroupError, match="closed"):
        group.ask("hello")


def test_a_traceback_shows_the_line_that_raised(start: Start, impatient: None) -> None:
    with pytest.raises(RankRaisedError) as caught:
        start().ask((1, "raise"))
    assert "group_workers.py" in str(caught.value)
    assert (caught.value.rank, caught.value.kind) == (1, "ValueError")


def test_a_request_that_all_ranks_refuse_alike_leaves_the_group_alive(start: Start) -> None:
    group = start()
    with pytest.raises(RankRaisedError, match="all of us refuse") as caught:
        group.ask("refuse")
    assert caught.value.alive
    assert group.ask("hello") == "hello from 0 of 2"


@pytest.mark.slow
def test_a_silent_rank_is_found_by_the_pace_that_was_learnt(start: Start) -> None:
    group = start(timeout=AdaptiveTimeout(first_s=3600.0, factor=3.0, floor_s=3.0))
    group.ask("hello")
    with pytest.raises(RankSilentError) as caught:
        group.ask((0, "sleep"))
    assert "after" in str(caught.value)
    assert caught.value.ranks == (1,)  # rank 0 had come as far as its step
    assert not group.alive


@pytest.mark.slow
def test_ranks_that_wait_for_one_in_a_collective_are_ended_and_the_place_is_named(
    start: Start,
) -> None:
    """As in NCCL, where the waiting ranks do not raise."""
    timeout = AdaptiveTimeout(first_s=3600.0, factor=3.0, floor_s=3.0)
    group = start(group_workers.decoding_together, timeout=timeout)
    assert group.ask("go") == "go"
    with pytest.raises(RankSilentError, match="after decoding") as caught:
        group.ask("hang")
    assert caught.value.ranks == (0, 1)  # both had come to the collective's place
    assert not group.alive


def test_a_rank_that_cannot_load_is_told_and_nothing_is_left(start: Start, impatient: None) -> None:
    with pytest.raises(RankRaisedError, match="no such weights") as caught:
        start(group_workers.rank_one_cannot_load)
    assert not caught.value.alive


def test_a_worker_that_ranks_cannot_find_is_refused(start: Start) -> None:
    with pytest.raises(ValueError, match="by name"):
        start(lambda context: None)


def test_output_of_ranks_is_passed_on_with_their_number(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RankDiedError):
        start().ask((1, "exit"))
    assert "[rank 1] about to leave" in capfd.readouterr().err


def test_what_a_rank_has_started_ends_with_it(start: Start) -> None:
    group = start()
    child = group.ask("spawn")
    assert is_running(child)
    group.close()
    assert wait_until(lambda: not is_running(child))


PARENT = """
import sys, time
from pipeline.ranks.group import RankGroup
from pipeline.ranks.processes import GroupSpec
from tests.pipeline.ranks import group_workers
group = RankGroup(group_workers.obedient, GroupSpec(2))
print(*group.processes, group._reaper.group, group.ask("spawn"), flush=True)
if sys.argv[1] == "asking":
    group.ask("sleep")
time.sleep(3600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["idle", pytest.param("asking", marks=pytest.mark.slow)])
def test_no_rank_outlives_a_killed_parent(state: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 4
    assert all(is_running(pid) for pid in pids)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: not any(is_running(pid) for pid in pids))


def held() -> tuple[int, set[Path]]:
    """Open files of this process, and shared memory of the machine."""
    return len(list(Path("/proc/self/fd").iterdir())), set(Path("/dev/shm").iterdir())


@pytest.mark.slow
def test_twenty_restarts_leak_nothing() -> None:
    RankGroup(group_workers.obedient, GroupSpec(2)).close()  # what is opened once stays open
    files, shared = held()
    pids: list[int] = []
    for number in range(20):
        group = RankGroup(group_workers.obedient, GroupSpec(2))
        pids += group.processes
        if number % 2:
            with pytest.raises(RankDiedError):
                group.ask((1, "kill"))
        else:
            group.close()
    assert not any(is_running(pid) for pid in pids)
    files_now, shared_now = held()
    assert files_now <= files  # fewer where one of an earlier test was closed only now
    assert shared_now <= shared
