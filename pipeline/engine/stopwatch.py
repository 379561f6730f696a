"""Seconds of a pipeline's call that are spent on text encoding and decoding, and marks of both.

Wraps two methods of one pipeline object during one call. Of diffusers it knows only that video
pipelines call `encode_prompt` and `vae.decode`, and that they compute on `_execution_device`
(0.42).
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

_HOST = torch.device("cpu")


@dataclass(slots=True)
class Laps:
    """Seconds so far.

    Attributes:
        text_s: In `encode_prompt`.
        decode_s: In `vae.decode`.
    """

    text_s: float = 0.0
    decode_s: float = 0.0


@contextlib.contextmanager
def stopwatch(pipe: Any, mark: Callable[[str], None] | None = None) -> Iterator[Laps]:
    """Time the calls inside the block; after it the pipeline is as before.

    Args:
        pipe: A diffusers pipeline.
        mark: Called with "encoding" and "encoded" before and after texts are encoded, and with
            "decoding" and "decoded" likewise; None: nobody wants to know.
    """
    laps = Laps()
    # With offload `pipe.device` is where the weights wait, not where they compute.
    device: torch.device = getattr(pipe, "_execution_device", getattr(pipe, "device", _HOST))
    with contextlib.ExitStack() as stack:
        for owner, method, lap, does in (
            (pipe, "encode_prompt", "text_s", "encod"),
            (getattr(pipe, "vae", None), "decode", "decode_s", "decod"),
        ):
            if owner is not None and hasattr(owner, method):
                marks = _Marks(mark, f"{does}ing", f"{does}ed")
                stack.enter_context(_timed(owner, method, device, laps, lap, marks))
        yield laps


@dataclass(frozen=True, slots=True)
class _Marks:
    """What is reported before and after a call, if anybody wants to know."""

    mark: Callable[[str], None] | None
    before: str
    after: str

    def say(self, name: str) -> None:
        if self.mark is not None:
            self.mark(name)


@contextlib.contextmanager
def _timed(
    owner: Any, method: str, device: torch.device, laps: Laps, lap: str, marks: _Marks
) -> Iterator[None]:
    before: Callable[..., Any] = getattr(owner, method)
    own = method in vars(owner)  # the object has a wrapper of its own already

    @functools.wraps(before)
    def timed(*args: Any, **kwargs: Any) -> Any:
        marks.say(marks.before)
        _settle(device)
        began = time.monotonic()
        try:
            return before(*args, **kwargs)
        finally:
            _settle(device)
            setattr(laps, lap, getattr(laps, lap) + time.monotonic() - began)
            marks.say(marks.after)

    setattr(owner, method, timed)
    try:
        yield
    finally:
        if own:
            setattr(owner, method, before)
        else:
            delattr(owner, method)


def _settle(device: torch.device) -> None:
    """Wait for the device's pending work, which would otherwise count for a later call."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
