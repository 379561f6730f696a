"""Prometheus series of a run, by Ray's own exporter: every node serves what its processes count.

Ray puts `ray_` before each name and adds labels for node, process and session; ours are few and
bounded, never a sample id. Series of the driver come from finished rows, by the definitions of
`report.json`: samples, steps, video, device seconds and money of a run are the numbers of its
report (`totals`, `device_s`, `dollars`; a row that another supersedes stays what it was counted
as). Those of a group are counted where they happen. A group that is killed takes the counts of its
last seconds with it, so money and samples are never counted there.

Knows nothing of how a row came to be. `infra/monitoring` reads these series.
"""

from __future__ import annotations

import atexit
import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import ray
from ray.util import metrics

from pipeline.engine.protocol import Clip, Engine
from pipeline.monitoring.totals import RunTotals
from pipeline.requests.sample_request import SampleRequest

GroupState = Literal["loading", "idle", "busy"]
STATES: tuple[GroupState, ...] = ("loading", "idle", "busy")

REPEAT_S = 5.0
"""Seconds between two times that a gauge is set, changed or not."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series.

    Attributes:
        name: Without Ray's prefix.
        kind: `counter` or `gauge`.
        help: What it counts, with its unit.
        labels: Our own.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """The name by which Prometheus knows it."""
        return f"ray_{self.name}"


SAMPLES = Series(
    "sencache_samples_total",
    "counter",
    "Finished rows by status (ok, failed, rejected) and role (clip, control).",
    ("status", "role"),
)
LEFT = Series("sencache_samples_left", "gauge", "Samples of this run without their final row.")
CLIP_SECONDS = Series(
    "sencache_clip_seconds_total", "counter", "Seconds of video made, without controls."
)
STEPS = Series(
    "sencache_steps_total",
    "counter",
    "Sampler steps of finished clips, without controls: computed or reused.",
    ("verdict",),
)
ROW_DEVICE_SECONDS = Series(
    "sencache_row_device_seconds_total",
    "counter",
    "Device seconds of finished rows by what they went into: clips, controls, failed_attempts.",
    ("spent",),
)
FAILED_ATTEMPTS = Series(
    "sencache_failed_attempts_total", "counter", "Attempts of finished samples that failed."
)
DOLLARS = Series(
    "sencache_cost_dollars_total",
    "counter",
    "Price of the device seconds of finished rows; neither loading nor idle time is in it.",
    ("spent",),
)
RUN = Series(
    "sencache_run", "gauge", "1 while a run's driver lives.", ("run_id", "model", "policy")
)
GROUPS = Series("sencache_groups", "gauge", "1 for the state that a group is in.", ("state",))
DEVICE_SECONDS = Series(
    "sencache_device_seconds_total",
    "counter",
    "Device seconds of engine calls, failed ones included, by what they were spent on.",
    ("spent",),
)
DISAGREEMENTS = Series(
    "sencache_rank_disagreements_total",
    "counter",
    "Verdicts of a group in which some rank by itself would have decided otherwise.",
)
STORE_RETRIES = Series(
    "sencache_store_retries_total", "counter", "Storage operations tried again.", ("verb",)
)

ALL = (
    SAMPLES,
    LEFT,
    CLIP_SECONDS,
    STEPS,
    ROW_DEVICE_SECONDS,
    FAILED_ATTEMPTS,
    DOLLARS,
    RUN,
    GROUPS,
    DEVICE_SECONDS,
    DISAGREEMENTS,
    STORE_RETRIES,
)


class RunTelemetry:
    """What the driver says of its run. Needs a connection to Ray."""

    def __init__(
        self,
        run_id: str,
        *,
        total: int,
        model: str,
        policy: str,
        gpu_price_per_hour: float | None = None,
    ) -> None:
        """Announce a run.

        Args:
            run_id: Of the run.
            total: Samples that it will make.
            model: Registry name.
            policy: Cache policy.
            gpu_price_per_hour: Dollars per device-hour; None: no series of cost.
        """
        self._total, self._price = total, gpu_price_per_hour
        self._told = RunTotals()
        _gauges().forget(RUN)  # of an earlier run of this process
        _gauges().set(RUN, 1, {"run_id": run_id, "model": model, "policy": policy})
        _gauges().set(LEFT, total)

    def update(self, totals: RunTotals) -> None:
        """Count what a totals holds beyond what it held the last time."""
        told, self._told = self._told, replace(totals)
        before = _samples(told)
        for (status, role), rows in _samples(totals).items():
            _add(SAMPLES, rows - before[status, role], {"status": status, "role": role})
        reused, told_reused = totals.steps - totals.nfe, told.steps - told.nfe
        _add(STEPS, totals.nfe - told.nfe, {"verdict": "computed"})
        _add(STEPS, reused - told_reused, {"verdict": "reused"})
        _add(CLIP_SECONDS, totals.video_s - told.video_s)
        _add(FAILED_ATTEMPTS, totals.failed_attempts - told.failed_attempts)
        for spent, seconds in totals.spent.items():
            device_s = seconds - told.spent[spent]
            _add(ROW_DEVICE_SECONDS, device_s, {"spent": spent})
            if self._price is not None:
                _add(DOLLARS, device_s / 3600 * self._price, {"spent": spent})
        _gauges().set(LEFT, self._total - totals.made)


class WatchedEngine:
    """An engine that tells what its group does; otherwise the engine itself."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch a loaded engine.

        Args:
            engine: Of the group that this process owns.
            clock: Monotonic seconds.
        """
        self._engine, self._clock = engine, clock
        self.device_name, self.group_size = engine.device_name, engine.group_size
        say_state("idle")

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """See `Engine`."""
        say_state("busy")
        began, spent = self._clock(), "failed"
        try:
            clips = self._engine.generate(requests)
            spent = "clips"
        finally:
            _add(DEVICE_SECONDS, (self._clock() - began) * self.group_size, {"spent": spent})
            say_state("idle")
        _add(DISAGREEMENTS, clips[0].cache["disagreements"])  # of the call, in each of its rows
        return clips

    def close(self) -> None:
        """See `Engine`."""
        self._engine.close()


def say_state(state: GroupState) -> None:
    """Tell which state the group of this process is in."""
    for each in STATES:
        _gauges().set(GROUPS, float(each == state), {"state": each})


def count_store_retry(verb: str) -> None:
    """Count a storage operation that is tried again; an observer of `Storage`.

    Args:
        verb: Of the operation: `write`, `read`, `list`, ...
    """
    _add(STORE_RETRIES, 1, {"verb": verb.split()[0]})


def _samples(totals: RunTotals) -> dict[tuple[str, str], int]:
    return {
        ("ok", "clip"): totals.clips,
        ("ok", "control"): totals.controls,
        ("failed", "clip"): totals.failed - totals.controls_failed,
        ("failed", "control"): totals.controls_failed,
        ("rejected", "clip"): totals.rejected,
    }


def _add(series: Series, value: float, labels: dict[str, str] | None = None) -> None:
    if value > 0:  # Ray refuses to add nothing
        _counter(series).inc(value, labels)


class Gauges:
    """Says the gauges of a process again and again, for Ray forgets one that is not set for 20 s.

    A clip may take minutes, and a run that stands still sets nothing at all.
    """

    def __init__(self, every_s: float, connected: Callable[[], bool]) -> None:
        """Begin with no gauge.

        Args:
            every_s: Seconds between two times.
            connected: Whether there is a Ray to tell it to.
        """
        self._connected = connected
        self._values: dict[tuple[Series, tuple[tuple[str, str], ...]], float] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, args=(every_s,), daemon=True)
        self._thread.start()

    def set(self, series: Series, value: float, labels: dict[str, str] | None = None) -> None:
        """Set a gauge now, and to the same value until it is set to another."""
        with self._lock:
            self._values[series, tuple((labels or {}).items())] = value
            _gauge(series).set(value, labels)

    def forget(self, series: Series) -> None:
        """Say a series no more."""
        with self._lock:
            self._values = {key: value for key, value in self._values.items() if key[0] != series}

    def close(self) -> None:
        """Say nothing any more."""
        self._over.set()
        self._thread.join()

    def _repeat(self, every_s: float) -> None:
        while not self._over.wait(every_s):
            if self._connected():
                with self._lock:
                    for (series, labels), value in self._values.items():
                        _gauge(series).set(value, dict(labels))


@functools.cache
def _gauges() -> Gauges:
    gauges = Gauges(REPEAT_S, ray.is_initialized)
    atexit.register(gauges.close)  # before Ray goes
    return gauges


@functools.cache
def _counter(series: Series) -> Any:
    return metrics.Counter(series.name, series.help, series.labels)


@functools.cache
def _gauge(series: Series) -> Any:
    return metrics.Gauge(series.name, series.help, series.labels)
