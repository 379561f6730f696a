"""The program of a rank: `python -m pipeline.ranks.rank FD`, where FD is its end of the socket.

Receives its setup, loads its model, and answers requests until the socket closes. An exception is
sent to the owner of the group, which decides what to do.
"""

from __future__ import annotations

import os
import sys
import traceback
from multiprocessing.connection import Connection

from pipeline.process import end_process
from pipeline.ranks.messages import (
    Answer,
    MakeHandler,
    Raised,
    RankContext,
    Ready,
)


def main(fd: int) -> int:
    """Serve the owner of the group and return the exit code."""
    connection = Connection(fd)
    context = RankContext(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), connection)
    try:
        try:
            make: MakeHandler = connection.recv()
            handle = make(context)
        except Exception as error:  # noqa: BLE001 - the owner decides what it means
            context.send(_raised(error, ready=False))
            return 1
        context.send(Ready())
        while True:
            payload = connection.recv()
            try:
                result = handle(payload)
            except Exception as error:  # noqa: BLE001 - likewise
                context.send(_raised(error, ready=True))
                continue
            context.send(Answer(result if context.rank == 0 else None))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0  # the owner has closed the group, or is gone


def _raised(error: Exception, *, ready: bool) -> Raised:
    return Raised(type(error).__name__, str(error), traceback.format_exc(), ready)


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    end_process(code)  # a process group of torch would wait for peers that may be gone
