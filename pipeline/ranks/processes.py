"""The processes of a group: their number and devices, how each starts, and how all of them end.

A rank's environment is as torchrun would set it. No rank outlives its owner: a rank that waits in a
collective for a peer cannot look after itself, and the kernel's signal at a parent's death is bound
to the thread that started the child, not to the process. So the ranks of a group, and whatever they
start, are one process group, whose leader is the `Reaper`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import IO

from pipeline.redaction import shown

LOOPBACK = "127.0.0.1"
KEPT_LINES = 40
"""Lines of a rank's output that are kept for an error message."""

KILLED_S = 20.0
"""Longest wait for the end of a killed process."""


@dataclass(frozen=True)
class GroupSpec:
    """One group of ranks on one node.

    Attributes:
        size: Ranks.
        devices: Entries of CUDA_VISIBLE_DEVICES, one per rank; empty for ranks on CPUs.
        threads: CPU threads of torch in each rank.
        start_s: Seconds that a rank may be silent while it loads its model.
        environment: Further variables for all ranks.

    Raises:
        ValueError: No rank, or not one device per rank.
    """

    size: int
    devices: tuple[str, ...] = ()
    threads: int = 1
    start_s: float = 3600.0
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a group has at least 1 rank, not {self.size}")
        if self.devices and len(self.devices) != self.size:
            raise ValueError(
                f"{self.size} ranks need as many devices, not {len(self.devices)}: "
                f"{', '.join(self.devices)}"
            )


def visible_devices() -> tuple[str, ...]:
    """The GPUs that Ray gave to this process, from CUDA_VISIBLE_DEVICES; empty if it is unset."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return tuple(entry.strip() for entry in given.split(",") if entry.strip())


def rank_environment(spec: GroupSpec, rank: int, port: int) -> dict[str, str]:
    """Variables of one rank, on top of its owner's.

    The rendezvous store lives in the owner, which has bound its port, so no other process can take
    it. TORCHELASTIC_USE_AGENT_STORE makes `env://` of torch.distributed join it as a client.
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
        # One visible device per rank: device 0 is its own, and it cannot touch another's.
        variables["CUDA_VISIBLE_DEVICES"] = spec.devices[rank]
    return variables


@dataclass(frozen=True)
class RankProcess:
    """A running rank.

    Attributes:
        rank: Number of the rank.
        process: Its process.
        connection: Messages to and from it.
        output: Its last lines of output.
    """

    rank: int
    process: subprocess.Popen[bytes]
    connection: Connection
    output: deque[str]
    _reader: threading.Thread

    def how_it_ended(self) -> str:
        """Exit code, or the signal that killed it, in words."""
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
        """Wait for the end of the killed process, and free what belongs to it.

        A process that hangs in a call of a device driver does not end; it is left.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(KILLED_S)
        self._reader.join(timeout=5.0)
        self.connection.close()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_rank(spec: GroupSpec, rank: int, port: int, group: int) -> RankProcess:
    """Start the program of a rank, which waits for its setup.

    Args:
        spec: Of the group.
        rank: Number of the rank.
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
    """Copy a rank's lines to this process's error output, each with the rank's number."""
    for raw in stream:
        line = shown(raw.decode(errors="replace").rstrip())
        kept.append(line)
        print(f"[rank {rank}] {line}", file=sys.stderr, flush=True)  # noqa: T201


_PROGRAM = """
import os, signal, sys
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(each, signal.SIG_IGN)
sys.stdin.buffer.read()
os.killpg(0, signal.SIGKILL)
"""


class Reaper:
    """Leader of the process group that the ranks join.

    It does nothing but read a pipe whose other end only the owner holds. When the owner dies, even
    by SIGKILL, the leader reads the end of the file and kills the whole process group.
    """

    def __init__(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    @property
    def group(self) -> int:
        """The process group's id."""
        return self._process.pid

    def kill(self) -> None:
        """Kill everything in the process group; harmless when called again."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILLED_S)
        if self._process.stdin is not None:
            self._process.stdin.close()
