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

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ray.util import metrics

from pipeline.engine import Clip, Engine
from pipeline.request import SampleRequest
from pipeline.tally import Tally

GroupState = Literal["loading", "idle", "busy"]
STATES: tuple[GroupState, ...] = ("loading", "idle", "busy")


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
        self._told = Tally()
        _gauge(RUN).set(1, {"run_id": run_id, "model": model, "policy": policy})
        _gauge(LEFT).set(total)

    def update(self, tally: Tally) -> None:
        """Count what a tally holds beyond what it held the last time."""
        told, self._told = self._told, replace(tally)
        before = _samples(told)
        for (status, role), rows in _samples(tally).items():
            _add(SAMPLES, rows - before[status, role], {"status": status, "role": role})
        reused, told_reused = tally.steps - tally.nfe, told.steps - told.nfe
        _add(STEPS, tally.nfe - told.nfe, {"verdict": "computed"})
        _add(STEPS, reused - told_reused, {"verdict": "reused"})
        _add(CLIP_SECONDS, tally.video_s - told.video_s)
        _add(FAILED_ATTEMPTS, tally.failed_attempts - told.failed_attempts)
        for spent, seconds in tally.spent.items():
            device_s = seconds - told.spent[spent]
            _add(ROW_DEVICE_SECONDS, device_s, {"spent": spent})
            if self._price is not None:
                _add(DOLLARS, device_s / 3600 * self._price, {"spent": spent})
        _gauge(LEFT).set(self._total - tally.made)


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
        _gauge(GROUPS).set(float(each == state), {"state": each})


def count_store_retry(verb: str) -> None:
    """Count a storage operation that is tried again; an observer of `Storage`.

    Args:
        verb: Of the operation: `write`, `read`, `list`, ...
    """
    _add(STORE_RETRIES, 1, {"verb": verb.split()[0]})


def _samples(tally: Tally) -> dict[tuple[str, str], int]:
    return {
        ("ok", "clip"): tally.clips,
        ("ok", "control"): tally.controls,
        ("failed", "clip"): tally.failed - tally.controls_failed,
        ("failed", "control"): tally.controls_failed,
        ("rejected", "clip"): tally.rejected,
    }


def _add(series: Series, value: float, labels: dict[str, str] | None = None) -> None:
    if value > 0:  # Ray refuses to add nothing
        _counter(series).inc(value, labels)


@functools.cache
def _counter(series: Series) -> Any:
    return metrics.Counter(series.name, series.help, series.labels)


@functools.cache
def _gauge(series: Series) -> Any:
    return metrics.Gauge(series.name, series.help, series.labels)
