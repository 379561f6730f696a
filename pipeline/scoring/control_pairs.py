"""Compares samples with their uncached controls while the frames of both are in memory.

Comparing before the clips are encoded keeps the loss of H.264 out of the numbers. Which samples
have a control: `pipeline.requests.controls`.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.engine.protocol import Clip
from pipeline.requests.sample_request import SampleRequest

Frames = np.ndarray[Any, np.dtype[np.uint8]]
Latents = np.ndarray[Any, np.dtype[np.float32]]
QualityStruct = dict[str, float | str | None]
"""The `quality` struct of a row."""

_TOO_SMALL = "no SSIM: frames are smaller than its window of 11 pixels"

_loading = threading.Lock()
"""Clips are compared in several threads; a cache alone would let each of them load LPIPS."""

COMPARED_FRAMES = 8
"""Frames that are compared at a time: a whole clip in floating point can take gigabytes."""


class ControlPairs:
    """The pairs of sample and control in the running tasks.

    It keeps the frames and latents of a sample until its control is made. Several tasks may run at
    once, each in a thread of its own; both sides of a pair belong to the same task.
    """

    def __init__(self) -> None:
        self._twins: set[str] = set()
        self._clips: dict[str, Clip] = {}

    @contextlib.contextmanager
    def among(self, requests: Sequence[SampleRequest]) -> Iterator[None]:
        """Within the block, know the pairs among the requests of a task."""
        present = {request.sample_id for request in requests}
        twins = {r.control_of for r in requests if r.control_of in present}
        self._twins |= twins
        try:
            yield
        finally:
            self._twins -= twins
            for sample_id in twins:
                self._clips.pop(sample_id, None)

    def role(self, request: SampleRequest) -> str:
        """Return `sample` or `control` for one side of a pair, and "" for a request without twin.

        An engine call holds requests of one role only, so that both sides of a pair share their
        call with the same number of others.
        """
        if request.control_of in self._twins:
            return "control"
        return "sample" if request.sample_id in self._twins else ""

    def keep(self, request: SampleRequest, clip: Clip) -> None:
        """Keep the clip of a sample until its control is made."""
        if self.role(request) == "sample":
            self._clips[request.sample_id] = clip

    def quality(self, request: SampleRequest, control: Clip) -> QualityStruct | None:
        """Compare a control with its sample; None unless both were made in this process."""
        twin = self._clips.get(request.control_of) if request.control_of else None
        if twin is None or twin.frames.shape != control.frames.shape:
            return None
        error = latent_error(twin.latents, control.latents)
        return compare(twin.frames, control.frames) | {"latent_error": error}


def latent_error(clip: Latents | None, control: Latents | None) -> float | None:
    """Rms of the difference between two clips' last latents over the rms of the control's.

    None where one is not known or the control's latents are all 0.
    """
    if clip is None or control is None or clip.shape != control.shape:
        return None
    size = float(np.sqrt(np.mean(np.square(control, dtype=np.float64))))
    difference = float(np.sqrt(np.mean(np.square(clip.astype(np.float64) - control))))
    return difference / size if size > 0.0 else None


def compare(clip: Frames, control: Frames) -> QualityStruct:
    """Measure how close a clip is to its control, as the row's `quality` struct.

    Args:
        clip: uint8 RGB of shape (frames, height, width, 3).
        control: Of the same shape.

    Returns:
        `psnr_db` over all frames together (100 for equal frames); `ssim` as the mean over frames,
        None where frames are smaller than its window; `lpips`, None where its weights are absent;
        `missing`, why one of them is None.
    """
    import torch

    from pipeline.scoring import similarity

    def parts(frames: Frames) -> Iterator[Any]:
        for start in range(0, len(frames), COMPARED_FRAMES):
            part = torch.from_numpy(frames[start : start + COMPARED_FRAMES].copy())
            yield part.permute(0, 3, 1, 2).double() / 255.0

    with _loading:
        distance, no_lpips = _lpips()
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
        "missing": "; ".join(filter(None, [_TOO_SMALL if small else "", no_lpips])),
    }


@functools.cache
def _lpips() -> tuple[Callable[[Any, Any], float] | None, str]:
    """LPIPS and "", or None and why. The driver says why, once for all processes."""
    import torch

    from pipeline.scoring.similarity import load_lpips

    return load_lpips(torch.device("cpu"))
