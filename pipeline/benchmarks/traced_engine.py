"""An engine that writes down when it was called and where the time of each call went."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine import Clip, Engine, EngineFactory
from pipeline.request import SampleRequest


@dataclass(frozen=True)
class Call:
    """One engine call.

    Attributes:
        began: `time.time()`.
        ended: Likewise.
        clips: Made by it.
        text_s: Seconds in the text encoder, its tokenizer included.
        decode_s: Seconds in the VAE.
    """

    began: float
    ended: float
    clips: int
    text_s: float
    decode_s: float


class TracedEngine:
    """A diffusers engine of one device whose calls are appended to a file."""

    def __init__(self, make: EngineFactory, log: str) -> None:
        """Load the engine and put clocks on the parts of its pipeline."""
        self._engine: Engine = make()
        self.device_name, self.group_size = self._engine.device_name, self._engine.group_size
        self._log, self._spent = Path(log), {"text_s": 0.0, "decode_s": 0.0}
        pipe: Any = self._engine._pipe  # type: ignore[attr-defined]
        pipe.encode_prompt = self._clocked(pipe.encode_prompt, "text_s")
        pipe.vae.decode = self._clocked(pipe.vae.decode, "decode_s")

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """See `Engine`."""
        self._spent.update(text_s=0.0, decode_s=0.0)
        began = time.time()
        clips = self._engine.generate(requests)
        call = {"began": began, "ended": time.time(), "clips": len(clips), **self._spent}
        with self._log.open("a") as log:
            log.write(json.dumps(call) + "\n")
        return clips

    def close(self) -> None:
        """See `Engine`."""
        self._engine.close()

    def _clocked(self, part: Callable[..., Any], name: str) -> Callable[..., Any]:
        import torch

        def settled() -> float:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return time.perf_counter()

        @functools.wraps(part)
        def clocked(*args: Any, **kwargs: Any) -> Any:
            began = settled()
            try:
                return part(*args, **kwargs)
            finally:
                self._spent[name] += settled() - began

        return clocked


def read_calls(log: Path) -> list[Call]:
    """What a traced engine has written, in order."""
    return [Call(**json.loads(line)) for line in log.read_text().splitlines()]
