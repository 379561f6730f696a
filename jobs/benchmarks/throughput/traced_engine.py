"""An engine that writes down when it was called."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.protocol import Clip, EngineFactory
from pipeline.requests.sample_request import SampleRequest


@dataclass(frozen=True)
class TracedCall:
    """One engine call.

    Attributes:
        began: `time.time()`.
        ended: Likewise.
        clips: Made by it.
        text_s: Seconds that went into text encoding.
        decode_s: Seconds that went into decoding latents.
        engine: Its process id.
    """

    began: float
    ended: float
    clips: int
    text_s: float
    decode_s: float
    engine: int


class TracedEngine:
    """An engine whose calls are appended to a file: nothing of it need survive its process."""

    def __init__(self, make: EngineFactory, log: str, cores: Sequence[int] = ()) -> None:
        """Load the engine.

        Args:
            make: Loads it.
            log: The file.
            cores: To which this thread is bound, with all that it starts from here on; all that
                the process may use if empty.
        """
        if cores:
            os.sched_setaffinity(0, cores)
        self._engine, self._log = make(), Path(log)
        self.device_name, self.group_size = self._engine.device_name, self._engine.group_size

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """See `Engine`."""
        began = time.time()
        clips = self._engine.generate(requests)
        parts = {"text_s": clips[0].text_s, "decode_s": clips[0].decode_s}
        call = {"began": began, "ended": time.time(), "clips": len(clips), **parts}
        call["engine"] = os.getpid()
        with self._log.open("a") as log:
            log.write(json.dumps(call) + "\n")
        return clips

    def close(self) -> None:
        """See `Engine`."""
        self._engine.close()


def read_calls(log: Path) -> list[TracedCall]:
    """What traced engines have written, in the order in which their calls ended."""
    return [TracedCall(**json.loads(line)) for line in log.read_text().splitlines()]


@dataclass(frozen=True)
class Steady:
    """What engines did while all of them were warm.

    Attributes:
        began: When the last of them had ended its first call, `time.time()`.
        ended: Likewise.
        engines: How many.
        clips: Made in between; a call that lies partly inside counts by that part.
        busy_s: Seconds inside calls in between, of all engines together.
    """

    began: float
    ended: float
    engines: int
    clips: float
    busy_s: float

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.ended - self.began

    @property
    def clips_per_s(self) -> float:
        """Of all engines together."""
        return self.clips / self.seconds

    @property
    def busy(self) -> float:
        """Share of the engines' time that was inside calls."""
        return self.busy_s / (self.seconds * self.engines)


def steady(calls: Sequence[TracedCall], ended: float | None = None) -> Steady:
    """Leave out the first call of every engine, which warms it up.

    Args:
        calls: Of all engines.
        ended: When the time of interest ended; until one engine had no more work if left out.

    Raises:
        ValueError: There is no time left.
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
    return Steady(began, ended, len(firsts), clips, sum(inside))
