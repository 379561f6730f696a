"""Controls: uncached twins of some samples, made beside them, by which a cache is judged.

Which samples have one is a function of their ids alone, so a resumed run chooses the same. A sample
and its control travel to a worker as one unit and are made there one after the other, in engine
calls of the same number of samples: same run, same device, same batch. Their frames are compared
while both are in memory, before H.264 adds its own loss. Knows nothing of Ray or files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.requests.sample_request import CacheSpec, SampleRequest, digest

Frames = np.ndarray[Any, np.dtype[np.uint8]]

COMPARED_FRAMES = 8
"""Frames that are compared at once: floats of a whole clip can take gigabytes."""


def is_chosen(sample_id: str, fraction: float) -> bool:
    """Whether a sample has a control; a larger fraction chooses all that a smaller one does."""
    if fraction <= 0.0:
        return False
    # Hashed again: people cut datasets by the first digits of their ids, and each cut should have
    # its share of controls.
    drawn = int.from_bytes(digest(["control", sample_id])[:8], "big") / 2**64
    return drawn < fraction


def control_for(request: SampleRequest) -> SampleRequest:
    """The uncached twin of a request: all else is equal, the seed included."""
    return dataclasses.replace(request, cache=CacheSpec(), control_of=request.sample_id)


def units(requests: Iterable[SampleRequest]) -> Iterator[list[SampleRequest]]:
    """Group every sample with the control that comes right after it."""
    unit: list[SampleRequest] = []
    for request in requests:
        if unit and request.control_of and request.control_of == unit[0].sample_id:
            unit.append(request)
            continue
        if unit:
            yield unit
        unit = [request]
    if unit:
        yield unit


def pack(unit: Sequence[SampleRequest]) -> str:
    """A unit as text for transport; JSON text of a request has no line breaks."""
    return "\n".join(request.to_json() for request in unit)


def unpack(text: str) -> list[SampleRequest]:
    """The inverse of `pack`."""
    return [SampleRequest.from_json(line) for line in text.split("\n")]


class ControlPairs:
    """Samples and controls of the tasks under way; frames of samples until their control is made.

    Several tasks may be under way at once, each in a thread of its own; a pair is of one task.
    """

    def __init__(self) -> None:
        self._twins: set[str] = set()
        self._frames: dict[str, Frames] = {}

    @contextlib.contextmanager
    def among(self, requests: Sequence[SampleRequest]) -> Iterator[None]:
        """Know the pairs among the requests of a task inside the block."""
        present = {request.sample_id for request in requests}
        twins = {r.control_of for r in requests if r.control_of in present}
        self._twins |= twins
        try:
            yield
        finally:
            self._twins -= twins
            for sample_id in twins:
                self._frames.pop(sample_id, None)

    def role(self, request: SampleRequest) -> str:
        """`sample` or `control` of a pair, "" for what has no twin here.

        Requests of one role go into engine calls of their own, so that both sides of the pairs
        share their calls with equally many others.
        """
        if request.control_of in self._twins:
            return "control"
        return "sample" if request.sample_id in self._twins else ""

    def keep(self, request: SampleRequest, frames: Frames) -> None:
        """Remember the frames of a sample whose control is still to come."""
        if self.role(request) == "sample":
            self._frames[request.sample_id] = frames

    def quality(self, request: SampleRequest, frames: Frames) -> dict[str, float | None] | None:
        """How near the sample came to this control; None unless both were made here."""
        twin = self._frames.get(request.control_of) if request.control_of else None
        return None if twin is None or twin.shape != frames.shape else compare(twin, frames)


def compare(clip: Frames, control: Frames) -> dict[str, float | None]:
    """Distances of a clip from its control, as the row's `quality` struct.

    Args:
        clip: uint8 RGB of shape (frames, height, width, 3).
        control: Of the same shape.

    Returns:
        `psnr_db` over all frames together (100 for equal frames), `ssim` as the mean over frames
        and None where frames are smaller than its window, `lpips` where its weights are there.
    """
    import torch

    from pipeline.scoring import similarity

    def parts(frames: Frames) -> Iterator[Any]:
        for start in range(0, len(frames), COMPARED_FRAMES):
            part = torch.from_numpy(frames[start : start + COMPARED_FRAMES].copy())
            yield part.permute(0, 3, 1, 2).double() / 255.0

    distance = _lpips()
    small = min(clip.shape[1:3]) < similarity.WINDOW
    squares, similar, far = 0.0, 0.0, 0.0
    for one, other in zip(parts(clip), parts(control), strict=True):
        squares += float((one - other).square().sum())
        similar += 0.0 if small else similarity.ssim(one, other) * len(one)
        far += distance(one, other) * len(one) if distance else 0.0
    return {
        "psnr_db": similarity.decibels(squares / clip.size),
        "ssim": None if small else similar / len(clip),
        "lpips": far / len(clip) if distance else None,
    }


@functools.cache
def _lpips() -> Callable[[Any, Any], float] | None:
    import torch

    from pipeline.scoring.similarity import load_lpips

    return load_lpips(torch.device("cpu"))[0]
