"""The sound that a pipeline makes beside its frames."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.engine.protocol import Sound


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
