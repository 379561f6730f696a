"""Batch runners without a model, shared by tests of attempts and stored clips."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.attempts.batch_runner import BatchRunner
from pipeline.attempts.ledger import Ledger
from pipeline.dataset.schema import NO_CACHE
from pipeline.engine.protocol import Clip
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage

BASE = SampleRequest("p", "", "demo", "rev", "S/3", 4, 4.0, 32, 16, 5, 8, 32, 0)

PATIENCE_S = 300.0
"""Longest wait of a test, after which it fails; no test depends on how long things take."""

Fault = Callable[[Sequence[SampleRequest]], None]


def requests(*prompts: str) -> list[SampleRequest]:
    return [dataclasses.replace(BASE, prompt=prompt) for prompt in prompts]


def assert_true(value: bool) -> None:
    assert value


class FakeEngine:
    """Makes grey frames; `fault` gets each batch first and may raise."""

    device_name = "fake"
    group_size = 2

    def __init__(self, fault: Fault = lambda batch: None) -> None:
        self.fault = fault
        self.batches: list[list[str]] = []
        self.closed = False

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        self.batches.append([request.prompt for request in requests])
        self.fault(requests)
        return [
            Clip(
                np.full((r.num_frames, r.height, r.width, 3), 90, np.uint8),
                dict(NO_CACHE) | {"nfe": 3, "reused": 1, "decisions": "CRCC"},
                123,
            )
            for r in requests
        ]

    def close(self) -> None:
        self.closed = True


def runner(engine: FakeEngine, storage: Storage, ledger: Ledger | None = None) -> BatchRunner:
    return BatchRunner(engine, storage, ledger or ledger_of(storage), "run", batch_rows=3)


def ledger_of(storage: Storage, max_attempts: int = 3) -> Ledger:
    return Ledger(storage, "run", max_attempts=max_attempts)
