"""The efficiency benchmark on the embedded model, with a run that needs no cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.benchmark import main
from jobs.benchmarks.throughput import efficiency
from jobs.benchmarks.throughput.core_sets import CoreSets
from jobs.benchmarks.throughput.efficiency import (
    bare,
    check_clips,
    requests_of,
    whole,
)
from pipeline.attempts.batch_runner import BatchRunner
from pipeline.attempts.ledger import Ledger
from pipeline.config.run_config import RunConfig
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import to_table
from pipeline.engine.protocol import EngineFactory
from pipeline.errors import UserError
from pipeline.models.resolve import resolve_model
from pipeline.storage.storage import Storage

CLIPS, STEPS, BATCH = 6, 1, 2


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    prompts = tmp_path / "p.txt"
    prompts.write_text("".join(f"a red circle, take {n}\n" for n in range(CLIPS)))
    return RunConfig.model_validate(
        {
            "prompts": str(prompts),
            "output": str(tmp_path / "out"),
            "device": "cpu",
            "cache": {"quality": "lossless"},
            "sampling": {"num_inference_steps": STEPS},
            "batch_rows": BATCH,
        }
    )


def run_here(config: RunConfig, *, factory: EngineFactory, console: Any) -> Any:
    """A run in this process and thread."""
    storage = Storage(config.output)
    ledger = Ledger(storage, "run", max_attempts=1)
    worker = BatchRunner(factory(), storage, ledger, "run", batch_rows=BATCH)
    rows = worker.process(requests_of(config, resolve_model(config.model, config.model_path)))
    sink = PartWriter(storage, "run", part_rows=100, part_seconds=100)
    sink.add(to_table(rows))
    sink.flush()
    return SimpleNamespace(totals=SimpleNamespace(ok=len(rows)))


@pytest.mark.variant
@pytest.mark.slow
def test_both_sides_make_the_same_calls_and_count_from_the_end_of_the_first(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: bound.append(tuple(cores)))
    cores = CoreSets(engine=(0,), rest=(1, 2))
    alone = bare(config, tmp_path / "alone", cores)
    monkeypatch.setattr(efficiency, "run", run_here)
    piped = whole(config, tmp_path / "piped", cores)
    assert bound == [(1, 2), (0,)]  # the run, then its engine; the other is in its own process
    model = resolve_model(config.model, config.model_path)
    assert len(requests_of(config, model)) == CLIPS  # the engine runs alone after it once more
    for calls in (alone.calls, piped.calls):
        assert [call.clips for call in calls] == [BATCH] * (CLIPS // BATCH)
        assert all(call.began < call.ended for call in calls)
        assert all(0 < call.text_s + call.decode_s < call.ended - call.began for call in calls)
    assert piped.clips == pytest.approx(CLIPS - BATCH)
    assert piped.engines == 1
    assert piped.window_s > piped.calls[-1].ended - piped.calls[0].ended
    assert piped.clips_per_s == pytest.approx(piped.clips / piped.window_s)
    assert 0 < piped.busy < 1
    assert alone.clips_per_s > 0
    assert alone.cpu_s > 0
    both = bare(config.model_copy(update={"batch_rows": 1}), tmp_path / "both", cores, engines=2)
    assert len({call.engine for call in both.calls}) == 2
    assert [call.clips for call in both.calls] == [1] * CLIPS
    assert both.clips_per_s > 0
    assert piped.encode_s > 0
    assert piped.upload_s > 0
    assert piped.rows_s > 0


class WatchedBarrier(threading.Barrier):
    """Tells when somebody waits at it."""

    def __init__(self, parties: int) -> None:
        super().__init__(parties)
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> int:
        self.reached.set()
        return super().wait(timeout)


def set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


class RecordingEngine:
    """Appends its name to a list at the beginning and at the end of every call."""

    def __init__(self, name: int, events: list[tuple[int, str]], ready: threading.Event) -> None:
        self._name, self._events, self._ready = name, events, ready

    def generate(self, requests: Sequence[object]) -> None:
        self._events.append((self._name, "begins"))
        assert self._ready.wait(600)
        self._events.append((self._name, "ends"))

    def close(self) -> None:
        """It holds nothing."""


def test_no_engine_alone_makes_a_second_call_before_all_are_warm(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = WatchedBarrier(2)
    events: list[tuple[int, str]] = []
    engines = iter(
        [RecordingEngine(0, events, set_event()), RecordingEngine(1, events, barrier.reached)]
    )
    monkeypatch.setattr(efficiency, "_all_warm", barrier)
    monkeypatch.setattr(efficiency, "_traced", lambda *_: lambda: next(engines))
    cores = CoreSets(engine=(0,), rest=(1,))
    alone = config.model_copy(update={"batch_rows": 1})
    with ThreadPoolExecutor(2) as pool:
        shares = [
            pool.submit(efficiency._bare, alone, str(tmp_path / "log"), cores, number, 2)
            for number in range(2)
        ]
        assert [share.result()[1] for share in shares] == [CLIPS // 2 - 1] * 2
    warm = max(events.index((name, "ends")) for name in (0, 1))
    assert events[: warm + 1].count((0, "begins")) == events[: warm + 1].count((1, "begins")) == 1


def test_an_engine_that_fails_leaves_no_other_one_waiting(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> EngineFactory:
        raise UserError("the weights are torn")

    barrier = threading.Barrier(2)
    monkeypatch.setattr(efficiency, "_all_warm", barrier)
    monkeypatch.setattr(efficiency, "_traced", broken)
    with pytest.raises(UserError, match="the weights are torn"):
        efficiency._bare(config, str(tmp_path / "log"), CoreSets((0,), (1,)), 0, 2)
    assert barrier.broken


def test_a_run_without_a_steady_state_is_refused() -> None:
    check_clips(24, 4, 2)
    with pytest.raises(UserError, match="--clips 23: at least 24, three calls of each engine"):
        check_clips(23, 4, 2)


def test_an_engine_on_a_gpu_needs_no_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the first engine, which needs the GPU."""
    asked: list[RunConfig] = []

    def no_gpu(config: RunConfig, *others: Any) -> None:
        asked.append(config)
        raise UserError("there is no GPU")

    monkeypatch.setattr(efficiency, "bare", no_gpu)
    assert main(["pipeline", "--device", "cuda", "--samples", "0"]) == 2
    assert [(config.device, config.parallel.cpus_per_rank) for config in asked] == [("cuda", 1)]
