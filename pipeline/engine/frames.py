"""From the frames that a model gives to the pixels of a clip, which must be a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.requests.sample_request import SampleRequest


class BadFramesError(RuntimeError):
    """The model gave frames that are not a picture; the sample fails and is not stored."""


def to_uint8(video: torch.Tensor, request: SampleRequest) -> list[np.ndarray[Any, Any]]:
    """Turn a batch of decoded clips into frames.

    Args:
        video: Shape (clips, num_frames, 3, height, width), 0 to 1, any float type and device.
        request: Says what the size must be.

    Returns:
        Per clip a uint8 array of shape (num_frames, height, width, 3).

    Raises:
        BadFramesError: The size differs, or a value is not finite.
    """
    wanted = (request.num_frames, 3, request.height, request.width)
    if video.shape[1:] != wanted:
        raise BadFramesError(
            f"model gave clips of (frames, channels, height, width) {tuple(video.shape[1:])}, "
            f"not {wanted}"
        )
    clips = []
    for clip in video:  # one at a time: float32 copies of a whole batch can fill a device
        values = clip.float()
        if not bool(torch.isfinite(values).all()):
            raise BadFramesError("model gave NaN or infinity instead of frames")
        pixels = (values * 255.0).round_().clamp_(0.0, 255.0).to(torch.uint8)
        clips.append(pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy())
    return clips
