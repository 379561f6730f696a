"""Workers that ranks of test groups run; ranks find them by name."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.ranks.messages import RankContext
from pipeline.ranks.shared_memory import SharedMessage


class Unreadable:
    """A message that its receiver cannot unpickle."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def obedient(context: RankContext) -> Any:
    """Does what it is told: a word, or a word for one rank as (rank, word)."""

    def work(order: Any) -> Any:
        if isinstance(order, tuple):
            rank, order = order
            if rank != context.rank:
                time.sleep(3600)  # as in a collective whose peer is missing
        context.mark("step")
        if order == "raise":
            raise ValueError(f"rank {context.rank} was told to")
        if order == "refuse":
            raise ValueError("all of us refuse")
        if order == "sleep":
            time.sleep(3600)
        if order == "exit":
            print("about to leave")
            sys.stdout.flush()
            os._exit(7)
        if order == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "torn":  # dies while it sends its answer
            assert context._connection is not None
            os.write(context._connection.fileno(), struct.pack("!i", 1 << 20) + b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "frames":
            return [np.full((4, 512, 512, 3), value, np.uint8) for value in (1, 2)]
        if order == "torn frames":  # dies between the two parts of its answer
            assert context._connection is not None
            context._connection.send(SharedMessage(b"", ((0, 1 << 20),), 1 << 20))
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "unreadable":
            context.send(Unreadable())
        if order == "spawn":
            return os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "3600")
        return f"{order} from {context.rank} of {context.size}"

    return work


def summing(context: RankContext) -> Any:
    """Adds up a number of each rank, in a real collective over gloo."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")

    def work(number: float) -> float:
        mine = torch.tensor(number * (context.rank + 1))
        dist.all_reduce(mine)
        return mine.item()

    return work


def decoding_together(context: RankContext) -> Any:
    """Marks a decode and meets its peers in a real collective; "hang" keeps rank 1 out of it."""
    import torch.distributed as dist

    dist.init_process_group("gloo")

    def work(order: str) -> str:
        context.mark("decoding")
        if order == "hang" and context.rank == 1:
            time.sleep(3600)
        dist.barrier()
        return order

    return work


def copying(context: RankContext) -> Any:
    """Takes this node's copy of a mirrored model."""
    from pipeline.models.weights import node_copy

    def work(mirror: tuple[str, str]) -> str:
        return str(node_copy(*mirror))

    return work


def rank_one_cannot_load(context: RankContext) -> Any:
    """Fails at the start in one rank."""
    if context.rank == 1:
        raise RuntimeError("no such weights")
    time.sleep(3600)


def no_rank_can_load(context: RankContext) -> Any:
    """Says what a user did wrong, in every rank."""
    raise UserError(f"dtype 'no such type' is unknown to all {context.size} ranks")


def poisonable(context: RankContext) -> Any:
    """Makes grey clips; "poison" kills rank 1 in the middle, "refused" makes all ranks raise."""
    import numpy as np

    from pipeline.dataset.schema import NO_CACHE
    from pipeline.engine.protocol import Clip
    from pipeline.ranks.group_engine import RankFacts

    def work(requests: Any) -> Any:
        if not requests:
            return RankFacts("grey")
        context.mark("step")
        prompts = [request.prompt for request in requests]
        if "poison" in prompts:
            if context.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(3600)
        if "refused" in prompts:
            raise ValueError("refused by all")
        first = requests[0]
        frames = np.full((first.num_frames, first.height, first.width, 3), 90, np.uint8)
        return [Clip(frames, NO_CACHE, 0) for _ in requests]

    return work
