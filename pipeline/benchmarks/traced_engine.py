"""An engine that writes down when it was called."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine import Clip, EngineFactory
from pipeline.request import SampleRequest


@dataclass(frozen=True)
class Call:
    """One engine call.

    Attributes:
        began: `time.time()`.
        ended: Likewise.
        clips: Made by it.
        text_s: Seconds that went into text encoding.
        decode_s: Seconds that went into decoding latents.
    """

    began: float
    ended: float
    clips: int
    text_s: float
    decode_s: float


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
        with self._log.open("a") as log:
            log.write(json.dumps(call) + "\n")
        return clips

    def close(self) -> None:
        """See `Engine`."""
        self._engine.close()


def read_calls(log: Path) -> list[Call]:
    """What a traced engine has written, in order."""
    return [Call(**json.loads(line)) for line in log.read_text().splitlines()]
