"""Clips in milliseconds, by real rank processes where asked, and a log of every attempt.

Ranks cost seconds at each start (their owner needs torch), so not every trial has them.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from pipeline.dataset.schema import NO_CACHE
from pipeline.engine.protocol import Clip, EngineDiedError, EngineFactory
from pipeline.ranks.failures import GroupError
from pipeline.ranks.group import RankGroup
from pipeline.ranks.messages import RankContext
from pipeline.ranks.processes import GroupSpec
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.scorer import ScoredClip
from tests.chaos.faults import Faults

RANKS = 2


@dataclass(frozen=True)
class Draw:
    """A rank's work: wait, then a grey level per request."""

    delay_s: float
    faults: Faults

    def __call__(self, context: RankContext) -> Any:
        """Load at once."""

        def work(requests: Sequence[SampleRequest]) -> list[int]:
            time.sleep(self.delay_s)
            context.mark("drawn")
            self.faults.check_answer(context)
            return [grey_of(request.seed) for request in requests]

        return work


class ChaosEngine:
    """Small grey clips drawn by a group of ranks; each attempt is a line of the log."""

    device_name = "chaos"
    group_size = RANKS

    def __init__(self, log: str, delay_s: float, broken: str, ranks: bool) -> None:
        self._log, self._broken = Path(log), Path(broken)
        self._node = ray.get_runtime_context().get_node_id()
        self._faults = Faults(faults_of(broken))
        self._faults.check_load(self._node)
        draw = Draw(delay_s, self._faults)
        self._alone = draw(RankContext(0, 1))
        self._group = RankGroup(draw, GroupSpec(RANKS)) if ranks else None

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """See `Engine`."""
        self._faults.check_call()
        self._note("begin", requests)
        if self._broken.exists() and self._broken.read_text() == self._node:
            self._note("killed", requests)
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            ask = self._group.ask if self._group else self._alone
            levels = ask(list(requests))
        except GroupError as error:
            raise EngineDiedError(str(error)) from error
        self._note("end", requests)
        return [
            Clip(np.full((r.num_frames, r.height, r.width, 3), level, np.uint8), NO_CACHE, 0)
            for r, level in zip(requests, levels, strict=True)
        ]

    def close(self) -> None:
        """End the ranks."""
        self._faults.check_close()
        if self._group:
            self._group.close()

    def _note(self, event: str, requests: Sequence[SampleRequest]) -> None:
        ids = [request.sample_id for request in requests]
        line = {"event": event, "ids": ids, "at": time.time(), "pid": os.getpid()}
        with self._log.open("a") as log:  # one write in append mode: lines do not mix
            log.write(json.dumps(line) + "\n")


class GreyScorer:
    """Scores a clip by its grey level, which follows from its seed."""

    name, version, scores = "grey", "1", ("grey",)

    def score(self, clips: Sequence[ScoredClip]) -> list[dict[str, float]]:
        return [{"grey": float(clip.frames[0, 0, 0, 0])} for clip in clips]


def grey_of(seed: int) -> int:
    """The grey level of the clip of a seed."""
    return seed % 200


def faults_of(broken: str) -> str:
    """The file of planted faults, beside the one that names a broken node."""
    return broken + ".fault"


def chaos_engine(log: str, delay_s: float, broken: str, *, ranks: bool) -> EngineFactory:
    """A factory that the cluster's workers find by name.

    Args:
        log: Where attempts are noted.
        delay_s: Of an engine call.
        broken: A file that names the node which kills its processes, while it is there.
        ranks: Whether the work is done by ranks.
    """
    return functools.partial(ChaosEngine, log, delay_s, broken, ranks)
