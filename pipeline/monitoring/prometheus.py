"""Prometheus series of a run, through Ray's exporter: every node serves what its processes count.

Ray puts `ray_` before each name and adds labels for node, process and session. Our own labels have
few values and are never a sample id. The driver counts finished rows by the definitions of
`report.json`, so samples, steps, video, device seconds and dollars of a run equal the numbers of
its report (`totals`, `device_s`, `dollars`), except that a row stays counted when another one
supersedes it. Groups count what happens inside them. A group that is killed loses the counts of its
last seconds, so it counts neither dollars nor samples.

Knows nothing of how a row is made. `infra/monitoring` reads these series.
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
"""Seconds after which a gauge is set again."""


@dataclass(frozen=True, slots=True)
class Series:
    """One Prometheus series.

    Attributes:
        name: Without Ray's prefix.
        kind: `counter` or `gauge`.
        help: What it counts, with its unit.
        labels: Our own labels.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """The name in Prometheus."""
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
    """Series that the driver sets for its run; needs a connection to Ray."""

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
            run_id: Id of the run.
            total: Samples that it will make.
            model: Registry name.
            policy: Cache policy.
            gpu_price_per_hour: Dollars per device-hour; None leaves out the cost series.
        """
        self._total, self._price = total, gpu_price_per_hour
        self._counted = RunTotals()
        _gauges().forget(RUN)  # that of an earlier run in this process
        _gauges().set(RUN, 1, {"run_id": run_id, "model": model, "policy": policy})
        _gauges().set(LEFT, total)

    def update(self, totals: RunTotals, total: int | None = None) -> None:
        """Count the growth of the totals; `total` is that of the run, where it has changed."""
        self._total = self._total if total is None else total
        counted, self._counted = self._counted, replace(totals)
        before = _samples(counted)
        for (status, role), rows in _samples(totals).items():
            _add(SAMPLES, rows - before[status, role], {"status": status, "role": role})
        reused, counted_reused = totals.steps - totals.nfe, counted.steps - counted.nfe
        _add(STEPS, totals.nfe - counted.nfe, {"verdict": "computed"})
        _add(STEPS, reused - counted_reused, {"verdict": "reused"})
        _add(CLIP_SECONDS, totals.video_s - counted.video_s)
        _add(FAILED_ATTEMPTS, totals.failed_attempts - counted.failed_attempts)
        for spent, seconds in totals.spent.items():
            device_s = seconds - counted.spent[spent]
            _add(ROW_DEVICE_SECONDS, device_s, {"spent": spent})
            if self._price is not None:
                _add(DOLLARS, device_s / 3600 * self._price, {"spent": spent})
        _gauges().set(LEFT, self._total - totals.made)


class WatchedEngine:
    """Wraps an engine and counts what it does."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch a loaded engine.

        Args:
            engine: The engine of this process's group.
            clock: Monotonic seconds.
        """
        self._engine, self._clock = engine, clock
        self.device_name, self.group_size = engine.device_name, engine.group_size
        self._lock, self._calls = threading.Lock(), 0
        say_state("idle")

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """Make one clip per request, as `Engine.generate` says."""
        self._count(1)
        began, spent, own = self._clock(), "failed", list[float]()
        try:
            clips = self._engine.generate(requests)
            spent, own = "clips", [clip.engine_s for clip in clips if clip.engine_s is not None]
        finally:
            seconds = sum(own) if own else self._clock() - began
            _add(DEVICE_SECONDS, seconds * self.group_size, {"spent": spent})
            self._count(-1)
        _add(DISAGREEMENTS, clips[0].cache["disagreements"])  # of the call, in each of its rows
        return clips

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _count(self, change: int) -> None:
        """Note that a call begins or ends; calls may overlap."""
        with self._lock:
            self._calls += change
            say_state("busy" if self._calls else "idle")


def say_state(state: GroupState) -> None:
    """Set the state of this process's group."""
    for each in STATES:
        _gauges().set(GROUPS, float(each == state), {"state": each})


def count_store_retry(verb: str) -> None:
    """Count a retried storage operation; the `on_retry` of a `Storage`.

    Args:
        verb: Verb of the operation: `write`, `read`, `list`, ...
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
    if value > 0:  # Ray refuses to add zero
        _counter(series).inc(value, labels)


class Gauges:
    """Sets the gauges of a process again and again, because Ray drops one after 20 s.

    A clip may take minutes, and a stalled run sets no gauge by itself.
    """

    def __init__(self, every_s: float, connected: Callable[[], bool]) -> None:
        """Begin with no gauge.

        Args:
            every_s: Seconds between two rounds.
            connected: Whether this process is connected to Ray.
        """
        self._connected = connected
        self._values: dict[tuple[Series, tuple[tuple[str, str], ...]], float] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, args=(every_s,), daemon=True)
        self._thread.start()

    def set(self, series: Series, value: float, labels: dict[str, str] | None = None) -> None:
        """Set a gauge now, and repeat its value until another is set."""
        with self._lock:
            self._values[series, tuple((labels or {}).items())] = value
            _gauge(series).set(value, labels)

    def forget(self, series: Series) -> None:
        """Stop setting the gauges of a series."""
        with self._lock:
            self._values = {key: value for key, value in self._values.items() if key[0] != series}

    def close(self) -> None:
        """Stop setting gauges."""
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
    atexit.register(gauges.close)  # before Ray shuts down
    return gauges


@functools.cache
def _counter(series: Series) -> Any:
    return metrics.Counter(series.name, series.help, series.labels)


@functools.cache
def _gauge(series: Series) -> Any:
    return metrics.Gauge(series.name, series.help, series.labels)
