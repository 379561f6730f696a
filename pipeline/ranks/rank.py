"""The program of a rank: `python -m pipeline.ranks.rank FD`, FD being its end of the socket.

Takes its setup, loads its model, and answers requests until the socket ends. An exception goes to
the parent, which decides what becomes of the group.
"""

from __future__ import annotations

import os
import sys
import traceback
from multiprocessing.connection import Connection

from pipeline.process import end_process
from pipeline.ranks.messages import (
    Answer,
    Ask,
    MakeWorker,
    Raised,
    RankContext,
    Ready,
)


def main(fd: int) -> int:
    """Serve one parent and return the exit code."""
    connection = Connection(fd)
    context = RankContext(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), connection)
    try:
        try:
            make: MakeWorker = connection.recv()
            work = make(context)
        except Exception as error:  # noqa: BLE001 - all of it is for the parent to judge
            context.send(_raised(error, ready=False))
            return 1
        context.send(Ready())
        while True:
            ask = connection.recv()
            assert isinstance(ask, Ask)  # noqa: S101 - only the parent holds the other end
            try:
                result = work(ask.payload)
            except Exception as error:  # noqa: BLE001 - likewise
                context.send(_raised(error, ready=True))
                continue
            context.send(Answer(ask.number, result if context.rank == 0 else None))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0  # the parent has closed the group, or is gone


def _raised(error: Exception, *, ready: bool) -> Raised:
    return Raised(type(error).__name__, str(error), traceback.format_exc(), ready)


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    end_process(code)  # a process group of torch would wait for peers that may be gone
