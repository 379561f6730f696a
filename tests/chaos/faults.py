"""Faults of engines that a trial plants in a file beside its log, and that engines look up."""

from __future__ import annotations

import json
import os
import signal
import struct
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.ranks.messages import RankContext

ANSWER, FAST, CLOSE, LOAD = "dies in its answer", "fails fast", "close raises", "cannot load"
STICKY = "CUDA error: an illegal memory access was encountered"


@dataclass(frozen=True)
class Faults:
    """The fault of a trial, if one is planted.

    Attributes:
        file: Where it is planted.
    """

    file: str

    def plant(self, kind: str, node: str = "") -> None:
        """Let one process have a fault, or all processes of a node."""
        new = Path(self.file + ".new")
        new.write_text(json.dumps([kind, node]))
        new.rename(self.file)

    def clear(self) -> None:
        """Mend it."""
        Path(self.file).unlink(missing_ok=True)

    def node_with(self, kind: str) -> str:
        """The node that has a fault of a kind, "" if there is none."""
        planted, node = self._planted()
        return node if planted == kind else ""

    def is_mine(self, kind: str) -> bool:
        """Whether this process has the fault: the first one that asks after it was planted."""
        if self._planted()[0] != kind:
            return False
        owner = Path(self.file + ".owner")
        try:
            with owner.open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return owner.read_text() == str(os.getpid())
        return True

    def check_load(self, node: str) -> None:
        """Raise as on a node whose device is gone."""
        if self.node_with(LOAD) == node:
            raise UserError(f"node {node[:8]} sees no GPU")

    def check_call(self) -> None:
        """Raise what an engine's call would."""
        if self.is_mine(FAST):
            raise MemoryError("cannot allocate 3 GiB")
        if self.is_mine(CLOSE):
            raise RuntimeError(STICKY)

    def check_close(self) -> None:
        """Raise what an engine's close would."""
        if self.is_mine(CLOSE):
            raise RuntimeError(STICKY)

    def check_answer(self, context: RankContext) -> None:
        """Die in the middle of an answer."""
        if context.rank == 1 and self.is_mine(ANSWER):
            assert context._connection is not None
            os.write(context._connection.fileno(), struct.pack("!i", 1 << 20) + b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)

    def _planted(self) -> tuple[str, str]:
        try:
            kind, node = json.loads(Path(self.file).read_text())
        except FileNotFoundError:
            return "", ""
        return kind, node
