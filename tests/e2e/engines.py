"""An engine that obeys its prompts; `python -m tests.e2e.engines JSON` runs a driver with it."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import ray
from ray import cloudpickle

from pipeline.config import RunConfig
from pipeline.engine import Clip, EngineFactory
from pipeline.errors import UserError
from pipeline.request import SampleRequest
from pipeline.run import run
from pipeline.schema import NO_CACHE


class ObedientEngine:
    """Small grey clips. `die` kills the process, `raise` and `misfit` raise, others are made.

    Its device is named after the node that it runs on.
    """

    group_size = 1

    def __init__(self, delay_s: float, closed: str = "") -> None:
        self._delay_s, self._closed = delay_s, closed
        self.device_name = ray.get_runtime_context().get_node_id()

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        time.sleep(self._delay_s)
        for request in requests:
            if request.prompt == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if request.prompt == "raise":
                raise RuntimeError("cannot draw this")
            if request.prompt == "misfit":
                raise UserError("the profile does not fit this model")
        return [Clip(np.full((5, 16, 16, 3), 100, np.uint8), NO_CACHE, 0) for _ in requests]

    def close(self) -> None:
        if self._closed:
            Path(self._closed).touch()


def broken() -> ObedientEngine:
    """A factory whose model cannot be loaded."""
    raise UserError("cannot load demo: the weights are torn")


def obedient(delay_s: float = 0.0, closed: str = "") -> EngineFactory:
    """A factory that workers can unpickle without this file; `closed` appears when one ends."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return functools.partial(ObedientEngine, delay_s, closed)


def main() -> int:
    report = run(RunConfig(**json.loads(sys.argv[1])), factory=obedient(0.3))
    return 130 if report.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
