"""From what a pipeline's call gives to the arrays of a clip: its pixels and its sound."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.engine.protocol import Sound
from pipeline.requests.sample_request import SampleRequest


class BadFramesError(RuntimeError):
    """The model gave frames that are not a picture; the sample fails and is not stored."""


def to_uint8(video: torch.Tensor, request: SampleRequest) -> list[np.ndarray[Any, Any]]:
    """Turn a batch of decoded clips into frames.

    Args:
        video: Shape (clips, num_frames, 3, height, width), 0 to 1, any float type and device. With
            `first_frames`, it may have fewer frames, down to these.
        request: Says what the size must be.

    Returns:
        Per clip a uint8 array of shape (num_frames, height, width, 3), or of `first_frames`.

    Raises:
        BadFramesError: The size differs, or a value is not finite.
    """
    if request.first_frames:
        video = video[:, : request.first_frames]
    frames = request.first_frames or request.num_frames
    wanted = (frames, 3, request.height, request.width)
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


def sounds_of(pipe: Any, output: Any, seconds: float) -> list[Sound | None]:
    """Return the sound of each clip of a call, not longer than the clip; None for a silent one.

    Args:
        pipe: A diffusers pipeline.
        output: What its call gave, with decoded frames.
        seconds: How long each clip lasts.

    Raises:
        ValueError: It gave NaN or infinity.
    """
    audio = getattr(output, "audio", None)
    if audio is None:
        return [None] * len(output.frames)
    rate = getattr(pipe.vocoder.config, "output_sampling_rate", None)  # of LTX-2
    rate = int(rate or pipe.audio_sample_rate)  # of Kandinsky 6
    values = torch.as_tensor(audio).detach().float().cpu()
    if not bool(torch.isfinite(values).all()):
        raise ValueError("model gave NaN or infinity instead of sound")
    if values.ndim == 2:  # one channel
        values = values[:, None]
    values = values[..., : round(seconds * rate)].clamp(-1.0, 1.0)
    return [Sound(clip.contiguous().numpy(), rate) for clip in values]
