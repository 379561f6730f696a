"""Large parts of a rank's answer in memory that it shares with the owner of its group.

Frames of a clip take 97 MB at 480p and 224 MB at 720p (81 frames). Through the socket they are
copied five times; here once, into a file in memory whose descriptor is passed over the socket. The
file has no name, so it is gone with the last process that holds it, however that ends.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

LEAST_BYTES = 1 << 20
"""Smaller answers go through the socket: a file costs more than their copies."""

_ALIGNED = 64
_SIGN = b"F"
"""The byte that a descriptor travels with."""


@dataclass(frozen=True)
class SharedMessage:
    """A message whose large parts follow as the descriptor of a file in memory.

    Attributes:
        pickled: The rest of it, pickled.
        places: Offset and length of each part in the file, in bytes.
        size: Of the file, in bytes.
    """

    pickled: bytes
    places: tuple[tuple[int, int], ...]
    size: int

    def received(self, connection: Connection) -> Any:
        """Take the descriptor from the connection and return the whole message.

        Its arrays can be written to. The memory, and a descriptor, are freed with the last of them.

        Raises:
            EOFError: The sender died before it sent the descriptor.
        """
        with socket.socket(fileno=os.dup(connection.fileno())) as end:
            sign, descriptors, _, _ = socket.recv_fds(end, len(_SIGN), 1)
        if sign != _SIGN or not descriptors:
            raise EOFError("the sender of a shared message is gone")
        try:
            memory = memoryview(mmap.mmap(descriptors[0], self.size))
        finally:
            os.close(descriptors[0])
        parts = [memory[start : start + length] for start, length in self.places]
        return pickle.loads(self.pickled, buffers=parts)  # noqa: S301 - of our own rank


def send_shared(connection: Connection, message: object) -> None:
    """Send a message, its large parts in shared memory where there are any.

    Args:
        connection: To the owner of the group, over a Unix socket.
        message: Of `pipeline.ranks.messages`.
    """
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    parts = [buffer.raw() for buffer in buffers]
    places, size = [], 0
    for part in parts:
        places.append((size, part.nbytes))
        size += -(-part.nbytes // _ALIGNED) * _ALIGNED
    memory = _memory(size) if size >= LEAST_BYTES else None
    if memory is None:
        connection.send(message)
        return
    try:
        with mmap.mmap(memory, size) as file:
            for part, (start, length) in zip(parts, places, strict=True):
                file[start : start + length] = part
        connection.send(SharedMessage(pickled, tuple(places), size))
        with socket.socket(fileno=os.dup(connection.fileno())) as end:
            socket.send_fds(end, [_SIGN], [memory])
    finally:
        os.close(memory)


def _memory(size: int) -> int | None:
    """The descriptor of a new file in memory; None on a system that has none."""
    if not hasattr(os, "memfd_create"):  # only Linux has it
        return None
    try:
        descriptor = os.memfd_create("clips")
    except OSError:
        return None
    os.ftruncate(descriptor, size)
    return descriptor
