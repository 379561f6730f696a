"""The values of the series, recorded instead of exported; tests/e2e uses Ray's exporter."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.schema import NO_CACHE, rejected_row, to_table
from pipeline.engine.protocol import Clip
from pipeline.monitoring import prometheus
from pipeline.monitoring.prometheus import RunTelemetry, WatchedEngine
from pipeline.monitoring.totals import RunTotals
from pipeline.report.pricing.prices import Prices
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import measure, row, write
from tests.pipeline.report.series import against_report

Recorded = dict[str, dict[tuple[str, ...], float]]


class Recorder:
    """Replaces a metric of Ray, and refuses what Ray refuses."""

    def __init__(self, name: str, labels: tuple[str, ...], into: Recorded) -> None:
        self._values, self._labels = into[name], labels

    def inc(self, value: float, labels: dict[str, str] | None = None) -> None:
        assert value > 0
        self._values[self._key(labels)] = self._values.get(self._key(labels), 0) + value

    def set(self, value: float, labels: dict[str, str] | None = None) -> None:
        self._values[self._key(labels)] = value

    def _key(self, labels: dict[str, str] | None) -> tuple[str, ...]:
        assert set(labels or {}) == set(self._labels)
        return tuple((labels or {})[name] for name in self._labels)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    values: Recorded = defaultdict(dict)

    def make(series: prometheus.Series) -> Recorder:
        return Recorder(series.name, series.labels, values)

    monkeypatch.setattr(prometheus, "_counter", make)
    monkeypatch.setattr(prometheus, "_gauge", make)
    return values


all_totals = st.builds(
    RunTotals,
    ok=st.integers(4, 9),
    controls=st.integers(0, 4),
    failed=st.integers(4, 9),
    controls_failed=st.integers(0, 4),
    rejected=st.integers(0, 9),
    gpu_s=st.floats(50, 99),
    control_gpu_s=st.floats(0, 50),
    wasted_gpu_s=st.floats(0, 50),
    video_s=st.floats(0, 99),
    nfe=st.integers(0, 99),
    steps=st.integers(100, 200),
    failed_attempts=st.integers(0, 9),
)


@given(st.lists(all_totals, min_size=1, max_size=5))
def test_counters_end_at_the_tally_however_often_they_are_told(growth: list[RunTotals]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        values: Recorded = defaultdict(dict)
        for kind in ("_counter", "_gauge"):
            patch.setattr(prometheus, kind, lambda s: Recorder(s.name, s.labels, values))
        run = RunTelemetry("r", total=100, model="m", policy="p", gpu_price_per_hour=3.6)
        totals = RunTotals()
        for more in growth:
            for name in RunTotals.__slots__:
                setattr(totals, name, getattr(totals, name) + getattr(more, name))
            run.update(totals)
    samples = values["sencache_samples_total"]
    for status in ("ok", "failed", "rejected"):
        rows = sum(samples.get((status, role), 0) for role in ("clip", "control"))
        assert rows == getattr(totals, status)
    assert samples.get(("ok", "control"), 0) == totals.controls
    assert samples.get(("failed", "control"), 0) == totals.controls_failed
    steps = values["sencache_steps_total"]
    assert steps.get(("computed",), 0) == totals.nfe
    assert sum(steps.values()) == totals.steps
    assert values["sencache_failed_attempts_total"].get((), 0) == totals.failed_attempts
    seconds = values["sencache_row_device_seconds_total"]
    dollars = values["sencache_cost_dollars_total"]
    for spent, device_s in totals.spent.items():
        assert seconds.get((spent,), 0) == pytest.approx(device_s)
        assert dollars.get((spent,), 0) == pytest.approx(device_s / 1000)
    assert values["sencache_samples_left"][()] == 100 - totals.ok - totals.failed


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ok", "failed", "rejected"]),
            st.floats(0.5, 50),
            st.floats(0, 20),
            st.sampled_from([1, 4]),
            st.booleans(),  # control
            st.booleans(),  # told before the next
        ),
        min_size=1,
        max_size=12,
    )
)
def test_series_are_the_numbers_of_the_report(made: list[tuple[Any, ...]]) -> None:
    rows = []
    for number, (status, wall, wasted, group, control, _) in enumerate(made):
        if status == "rejected":
            rows.append(rejected_row(f"{number:020}", "", f"f:{number}", "demo", "r1", "why"))
        else:
            told = {"status": status, "wall": wall, "wasted": wasted, "group": group}
            rows.append(row(number, control=control, attempts=2, worker=f"{group}", **told))
    with pytest.MonkeyPatch.context() as patch:
        values: Recorded = defaultdict(dict)
        for kind in ("_counter", "_gauge"):
            patch.setattr(prometheus, kind, lambda s: Recorder(s.name, s.labels, values))
        run = RunTelemetry("r1", total=99, model="m", policy="p", gpu_price_per_hour=3.6)
        totals = RunTotals()
        for each, (*_, told_now) in zip(rows, made, strict=True):
            totals.add(to_table([each]))
            if told_now:
                run.update(totals)
        run.update(totals)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(write(Path(folder), rows), Prices({"": 3.6}))
    assert against_report(report, lambda name, **labels: find(values[name], *labels.values())) == {}


def find(series: dict[tuple[str, ...], float], *labels: str) -> float:
    return series.get(labels, 0.0)


def test_without_a_price_there_is_no_series_of_cost(recorded: Recorded) -> None:
    RunTelemetry("r", total=1, model="m", policy="p").update(RunTotals(ok=1, gpu_s=5))
    assert "sencache_cost_dollars_total" not in recorded
    assert recorded["sencache_run"] == {("r", "m", "p"): 1}


class Engine:
    device_name, group_size = "d", 4

    def __init__(self, seen: Recorded, engine_s: float | None = None) -> None:
        self._seen, self._engine_s = seen, engine_s

    def generate(self, requests: Sequence[Any]) -> list[Clip]:
        assert self._seen["sencache_groups"] == {("loading",): 0, ("idle",): 0, ("busy",): 1}
        if not requests:
            raise RuntimeError("nothing to do")
        frames = np.zeros((1, 2, 2, 3), np.uint8)
        cache = {**NO_CACHE, "disagreements": 2}
        return [Clip(frames, cache, 0, engine_s=self._engine_s) for _ in requests]

    def close(self) -> None:
        return


def test_gauges_are_said_again_while_nothing_changes(recorded: Recorded) -> None:
    gauges = prometheus.Gauges(0.01, connected=lambda: True)
    left, state = recorded["sencache_samples_left"], recorded["sencache_groups"]
    gauges.set(prometheus.LEFT, 7)
    gauges.set(prometheus.GROUPS, 1, {"state": "busy"})
    for _ in range(3):
        left.clear()  # as Ray does after a while
        state.clear()
        wait_until(lambda: left == {(): 7} and state == {("busy",): 1})
    gauges.forget(prometheus.GROUPS)
    state.clear()
    left.clear()
    wait_until(lambda: left == {(): 7})
    assert state == {}
    gauges.close()
    left.clear()
    time.sleep(0.05)
    assert left == {}


def wait_until(true: Callable[[], bool]) -> None:
    while not true():  # the test's own time limit ends it
        time.sleep(0.005)


def test_a_group_counts_its_device_seconds_whatever_came_of_them(recorded: Recorded) -> None:
    ticks = itertools.count(step=10)
    engine = WatchedEngine(Engine(recorded), clock=lambda: next(ticks))
    idle = {("loading",): 0, ("idle",): 1, ("busy",): 0}
    assert recorded["sencache_groups"] == idle
    assert len(engine.generate(["one", "two"])) == 2  # type: ignore[list-item]
    with pytest.raises(RuntimeError, match="nothing to do"):
        engine.generate([])
    assert recorded["sencache_groups"] == idle
    assert recorded["sencache_device_seconds_total"] == {("clips",): 40, ("failed",): 40}
    assert recorded["sencache_rank_disagreements_total"] == {(): 2}  # once for the call
    assert (engine.device_name, engine.group_size) == ("d", 4)


def test_calls_that_overlap_count_what_their_clips_are_charged_with(recorded: Recorded) -> None:
    engine = WatchedEngine(Engine(recorded, engine_s=1.5), clock=itertools.count(step=10).__next__)
    engine.generate(["one", "two"])  # type: ignore[list-item]
    assert recorded["sencache_device_seconds_total"] == {("clips",): 12}
    engine._count(1)  # another call begins, and this one ends
    engine._count(1)
    engine._count(-1)
    assert recorded["sencache_groups"]["busy",] == 1


def test_a_storage_operation_that_is_tried_again_is_counted(
    recorded: Recorded, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path), on_retry=prometheus.count_store_retry)
    faults = iter([ConnectionResetError(), ConnectionResetError(), None])
    real = storage._fs.pipe_file

    def shaky(path: str, data: bytes) -> None:
        if (fault := next(faults)) is not None:
            raise fault
        real(path, data)

    monkeypatch.setattr(storage._fs, "pipe_file", shaky)
    storage.put_bytes("a", b"x")
    assert recorded["sencache_store_retries_total"] == {("write",): 2}


def test_series_are_well_named_and_their_labels_are_few() -> None:
    names = [series.name for series in prometheus.ALL]
    assert len(set(names)) == len(names)
    for series in prometheus.ALL:
        assert series.name.endswith("_total") == (series.kind == "counter")
        assert len(series.labels) <= 3
        assert not {"sample_id", "prompt", "caption"} & set(series.labels)
