"""An engine that logs its calls, and the steady state of several engines."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.benchmarks.throughput.core_sets import bind
from pipeline.engine.protocol import Clip, EngineFactory
from pipeline.requests.sample_request import SampleRequest


@dataclass(frozen=True)
class TracedCall:
    """One engine call.

    Attributes:
        began: Start, as `time.time()`.
        ended: End, as `time.time()`.
        clips: Clips that it made.
        text_s: Seconds of text encoding.
        decode_s: Seconds of decoding latents.
        engine: Process id of the engine.
    """

    began: float
    ended: float
    clips: int
    text_s: float
    decode_s: float
    engine: int


class TracedEngine:
    """An engine that appends its calls to a file, so that they outlive its process."""

    def __init__(self, make: EngineFactory, log: str, cores: Sequence[int] = ()) -> None:
        """Load the engine.

        Args:
            make: Makes the engine whose calls are logged.
            log: Path of the file.
            cores: Cores to bind this thread to, and all that it starts later; empty for no binding.
        """
        if cores:
            bind(cores)
        self._engine, self._log = make(), Path(log)
        self.device_name, self.group_size = self._engine.device_name, self._engine.group_size

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """Call the engine, log the call and return its clips."""
        began = time.time()
        clips = self._engine.generate(requests)
        parts = {"text_s": clips[0].text_s, "decode_s": clips[0].decode_s}
        call = {"began": began, "ended": time.time(), "clips": len(clips), **parts}
        call["engine"] = os.getpid()
        with self._log.open("a") as log:
            log.write(json.dumps(call) + "\n")
        return clips

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def read_calls(log: Path) -> list[TracedCall]:
    """Read the calls of traced engines, in the order of their ends."""
    return [TracedCall(**json.loads(line)) for line in log.read_text().splitlines()]


@dataclass(frozen=True)
class SteadyState:
    """The work of several engines while all of them were warm.

    Attributes:
        began: End of the last first call of an engine, as `time.time()`.
        ended: End of the window, as `time.time()`.
        engines: Number of engines.
        clips: Clips made in the window; a call that is partly inside counts in proportion.
        busy_s: Seconds inside calls in the window, summed over engines.
    """

    began: float
    ended: float
    engines: int
    clips: float
    busy_s: float

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.ended - self.began

    @property
    def clips_per_s(self) -> float:
        """Clips per second of all engines together."""
        return self.clips / self.seconds

    @property
    def busy(self) -> float:
        """Share of the engines' time inside calls."""
        return self.busy_s / (self.seconds * self.engines)


def steady(calls: Sequence[TracedCall], ended: float | None = None) -> SteadyState:
    """Return the steady state of engines, without the first call of each, which warms it up.

    Args:
        calls: Calls of all engines.
        ended: End of the window; by default the first time that an engine has no more work.

    Raises:
        ValueError: The window is empty.
    """
    firsts: dict[int, float] = {}
    lasts: dict[int, float] = {}
    for call in calls:
        firsts.setdefault(call.engine, call.ended)
        lasts[call.engine] = call.ended
    began, ended = max(firsts.values()), min(lasts.values()) if ended is None else ended
    if ended <= began:
        raise ValueError("an engine ended before all of them were warm: more calls are needed")
    inside = [max(0.0, min(call.ended, ended) - max(call.began, began)) for call in calls]
    clips = sum(
        call.clips * part / (call.ended - call.began)
        for call, part in zip(calls, inside, strict=True)
    )
    return SteadyState(began, ended, len(firsts), clips, sum(inside))
