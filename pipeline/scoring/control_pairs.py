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
    once, each in a thread of its own; both sides of a pair belong to the same task. Where the
    sample was made elsewhere, it is made again beside its control
    (`pipeline.attempts.samples_again`).
    """

    def __init__(self) -> None:
        self._twins: set[str] = set()
        self._clips: dict[str, Clip] = {}
        self._again_s: dict[str, float] = {}
        self._reasons: dict[str, str] = {}

    @contextlib.contextmanager
    def among(self, requests: Sequence[SampleRequest]) -> Iterator[None]:
        """Within the block, know the pairs among the requests of a task."""
        present = {request.sample_id for request in requests}
        of_controls = {request.control_of for request in requests if request.control_of}
        twins = of_controls & present
        self._twins |= twins
        try:
            yield
        finally:
            self._twins -= twins
            for sample_id in of_controls:
                self._drop(sample_id)

    def role(self, request: SampleRequest) -> str:
        """Return which side of a pair a request is, and "" for a request without twin.

        An engine call holds requests of one role only, so that both sides of a pair share their
        call with the same number of others. The controls of one call have samples that can share a
        call, too.
        """
        if request.control_of in self._twins:
            return "control"
        if request.sample_cache is not None:
            return f"control of {request.sample_cache} {request.sample_quantisation}"
        return "sample" if request.sample_id in self._twins else ""

    def keep(self, request: SampleRequest, clip: Clip) -> None:
        """Keep the clip of a sample until its control is made."""
        if self.role(request) == "sample":
            self._clips[request.sample_id] = clip

    def failed(self, sample_id: str) -> None:
        """Note that a sample has no clip, so that it is not made again for its control."""
        if sample_id in self._twins:
            self._reasons[sample_id] = ""

    def lacking(self, requests: Sequence[SampleRequest]) -> list[SampleRequest]:
        """Those controls whose sample has a clip, though its frames are not here."""
        return [
            request
            for request in requests
            if request.sample_cache is not None
            and request.control_of not in self._clips
            and request.control_of not in self._reasons
        ]

    def keep_again(self, control: SampleRequest, clip: Clip, wall_s: float) -> None:
        """Keep the clip of a sample that was made again for its control, in so many seconds."""
        self._clips[control.control_of] = clip
        self._again_s[control.control_of] = wall_s

    def cannot_compare(self, control: SampleRequest, reason: str, wall_s: float) -> None:
        """Note why a sample could not be made again, which took so many seconds."""
        self._reasons[control.control_of] = f"its clip could not be made again: {reason}"
        self._again_s[control.control_of] = wall_s

    def forget(self, controls: Sequence[SampleRequest]) -> None:
        """Drop what was made again for controls."""
        for control in controls:
            if control.control_of in self._again_s:
                self._drop(control.control_of)

    def quality(self, request: SampleRequest, control: Clip) -> QualityStruct | None:
        """Compare a control with its sample; None for others, and where the sample failed."""
        if not request.control_of:
            return None
        again_s = self._again_s.get(request.control_of)
        if reason := self._reasons.get(request.control_of):
            return {"missing": reason, "clip_wall_s": again_s}
        twin = self._clips.get(request.control_of)
        if twin is None or twin.frames.shape != control.frames.shape:
            return None
        error = latent_error(twin.latents, control.latents)
        found = compare(twin.frames, control.frames)
        return found | {"latent_error": error, "clip_wall_s": again_s}

    def _drop(self, sample_id: str) -> None:
        for held in (self._clips, self._again_s, self._reasons):
            held.pop(sample_id, None)


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
