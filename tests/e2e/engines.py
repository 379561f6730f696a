"""An engine that obeys its prompts; `python -m tests.e2e.engines JSON [DELAY_S SLOW]` runs it."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import ray
from ray import cloudpickle

from pipeline.calibration.measurement import Measurement
from pipeline.cluster import ray_data_plan
from pipeline.config.run_config import RunConfig
from pipeline.dataset.schema import NO_CACHE
from pipeline.engine.protocol import Clip, EngineFactory
from pipeline.errors import UserError
from pipeline.requests.sample_request import SampleRequest
from pipeline.run import run
from sencache.profiles.metadata import ProfileMetadata
from sencache.profiles.own_clips import ClipDrift


class ObedientEngine:
    """Small grey clips. `die…` kills the process, `raise` and `misfit` raise, others are made.

    Its device is named after the node that it runs on.
    """

    group_size = 1

    def __init__(self, delay_s: float, closed: str = "", slow: str = "") -> None:
        self._delay_s, self._closed, self._slow = delay_s, closed, slow
        self.device_name = ray.get_runtime_context().get_node_id()

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        take_time(self._delay_s, self._slow)
        for request in requests:
            if request.prompt.startswith("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            if request.prompt == "raise":
                raise RuntimeError("cannot draw this")
            if request.prompt == "misfit":
                raise UserError("the profile does not fit this model")
        frames = np.full((5, 16, 16, 3), 100, np.uint8)
        return [
            Clip(frames, NO_CACHE, 0, measurement=measured(request) if request.records else "")
            for request in requests
        ]

    def close(self) -> None:
        if self._closed:
            Path(self._closed).touch()


def measured(request: SampleRequest) -> str:
    """What a recorded request measures: a random walk that follows from its seed."""
    steps = tuple(1.0 - step / 20 for step in range(20))
    walk = np.random.default_rng(request.seed).normal(size=(20, 50)).cumsum(0)
    distances = np.square(walk[:, None] - walk[None]).mean(-1)
    drift = ClipDrift.of_outputs(steps, steps, distances, latents_rms=1.0, evaluations=20)
    facts = (request.model, request.model_revision, "wan", "S", 3.0, 1000, 20, 4.0)
    metadata = ProfileMetadata(*facts, 16, 16, 5, "float32", 1, 20, inputs="run")
    return Measurement(metadata, "flow", drift).to_json()


def take_time(delay_s: float, slow: str) -> None:
    """Wait; no longer if a file is named and not there."""
    until = time.monotonic() + delay_s
    while time.monotonic() < until and (not slow or Path(slow).exists()):
        time.sleep(0.02)


def encode(delay_s: float, slow: str, requests: Sequence[SampleRequest]) -> list[bytes]:
    """Texts that an `ObedientEngine` needs: none."""
    take_time(delay_s, slow)
    return [b""] * len(requests)


def broken() -> ObedientEngine:
    """A factory whose model cannot be loaded."""
    raise UserError("cannot load demo: the weights are torn")


def obedient(delay_s: float = 0.0, closed: str = "", slow: str = "") -> EngineFactory:
    """A factory that workers can unpickle without this file.

    Args:
        delay_s: Of an engine call.
        closed: A file that appears when an engine is closed.
        slow: A file without which there is no delay.
    """
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return functools.partial(ObedientEngine, delay_s, closed, slow)


def main() -> int:
    settings, *pace = sys.argv[1:]
    delay_s, slow = (float(pace[0]), pace[1]) if pace else (0.3, "")
    encoder = functools.partial(functools.partial, encode, delay_s, slow)
    try:
        with mock.patch.object(ray_data_plan, "text_factory", return_value=encoder):
            config = RunConfig(**json.loads(settings))
            report = run(config, factory=obedient(delay_s, slow=slow))
    except UserError as error:
        print(f"error: {error}", flush=True)
        return 2
    return 130 if report.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
