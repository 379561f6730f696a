"""Messages with large parts: what arrives, what stays open, and where there is no such memory."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.ranks.messages import Answer
from pipeline.ranks.shared_memory import LEAST_BYTES, SharedMessage, send_shared

LARGE = np.arange(LEAST_BYTES, dtype=np.uint8)


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as owner, Connection(theirs.detach()) as rank:
        yield owner, rank


def taken(owner: Connection) -> tuple[Any, bool]:
    """The next message, and whether it came by shared memory."""
    message = owner.recv()
    shared = isinstance(message, SharedMessage)
    return message.received(owner) if shared else message, shared


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_large_arrays_arrive_whole_and_others_by_the_socket(
    ends: tuple[Connection, Connection],
) -> None:
    owner, rank = ends
    before = open_descriptors()
    odd = np.arange(7, dtype=np.float32)  # the next part begins at an aligned place
    # numpy pickles an array with gaps in place: it must fit into the socket's own memory.
    gaps = LARGE[:2000:2]
    send_shared(rank, Answer([odd, LARGE, "text", gaps]))
    send_shared(rank, Answer(odd))
    answer, shared = taken(owner)
    assert shared
    for found, sent in zip(answer.result, (odd, LARGE, "text", gaps), strict=True):
        assert np.array_equal(found, sent)
    answer.result[1][0] = 9  # it is the receiver's own
    assert LARGE[0] == 0
    del answer, found, sent
    small, shared = taken(owner)
    assert not shared
    assert np.array_equal(small.result, odd)
    assert open_descriptors() == before


def test_a_sender_that_dies_before_the_descriptor_is_an_end(
    ends: tuple[Connection, Connection],
) -> None:
    owner, rank = ends
    rank.send(SharedMessage(b"", ((0, 1),), 1))
    rank.close()
    with pytest.raises(EOFError):
        taken(owner)


def test_without_such_memory_the_socket_takes_all(
    ends: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError("no such call")

    owner, rank = ends
    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr("pipeline.ranks.shared_memory.LEAST_BYTES", 1000)
    sent = np.arange(2000, dtype=np.uint8)  # fits into the socket's own memory
    send_shared(rank, Answer(sent))
    answer, shared = taken(owner)
    assert not shared
    assert np.array_equal(answer.result, sent)
