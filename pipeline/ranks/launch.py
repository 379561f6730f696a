"""Start of one rank: its environment as torchrun would set it, its socket, and its output."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO

from pipeline.ranks.spec import GroupSpec

LOOPBACK = "127.0.0.1"
KEPT_LINES = 40
"""Lines of a rank's output that an error report can quote."""


def rank_environment(spec: GroupSpec, rank: int, port: int) -> dict[str, str]:
    """Variables of one rank, on top of the parent's own.

    The rendezvous store lives in the parent, which bound its port itself, so nobody else can take
    it; TORCHELASTIC_USE_AGENT_STORE makes `env://` of torch.distributed join it as a client.
    """
    variables = {
        "RANK": str(rank),
        "LOCAL_RANK": "0" if spec.devices else str(rank),
        "WORLD_SIZE": str(spec.size),
        "LOCAL_WORLD_SIZE": str(spec.size),
        "MASTER_ADDR": LOOPBACK,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": str(spec.threads),
        "PYTHONUNBUFFERED": "1",
        **spec.environment,
    }
    if spec.devices:
        # One visible device per rank: no rank can touch another's, and device 0 is its own.
        variables["CUDA_VISIBLE_DEVICES"] = spec.devices[rank]
    return variables


@dataclass(frozen=True)
class RankProcess:
    """A running rank.

    Attributes:
        rank: Which.
        process: Its process.
        connection: Messages to and from it.
        output: Its last lines.
    """

    rank: int
    process: subprocess.Popen[bytes]
    connection: Connection
    output: deque[str]
    _reader: threading.Thread

    def how_it_ended(self) -> str:
        """For people: exit code, or the signal that killed it."""
        code = self.process.poll()
        if code is None:
            return "closed its connection"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    def last_words(self) -> str:
        """Its last lines of output."""
        self._reader.join(timeout=1.0)  # the pipe ends with the process
        return "\n".join(self.output)

    def bury(self) -> None:
        """Wait for the end of a killed process, and free what belonged to it."""
        self.process.wait()
        self._reader.join(timeout=5.0)
        self.connection.close()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_rank(spec: GroupSpec, rank: int, port: int, group: int) -> RankProcess:
    """Start the program of a rank; it waits for its setup.

    Args:
        spec: Of the group.
        rank: Which.
        port: Of the rendezvous store.
        group: Process group that it joins.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "pipeline.ranks.rank", str(theirs.fileno())],
            env={**os.environ, **rank_environment(spec, rank, port)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=group,
        )
    output: deque[str] = deque(maxlen=KEPT_LINES)
    reader = threading.Thread(
        target=_relay, args=(process.stdout, rank, output), name=f"rank-{rank}", daemon=True
    )
    reader.start()
    return RankProcess(rank, process, Connection(ours.detach()), output, reader)


def _relay(stream: IO[bytes], rank: int, kept: deque[str]) -> None:
    """Pass a rank's lines on to this process's own error output, each with the rank's number."""
    for raw in stream:
        line = raw.decode(errors="replace").rstrip()
        kept.append(line)
        print(f"[rank {rank}] {line}", file=sys.stderr, flush=True)  # noqa: T201
