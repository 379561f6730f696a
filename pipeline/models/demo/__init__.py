"""The embedded demonstration model: a tiny, really trained text-to-video diffusion pipeline.

Importing this package is cheap (no torch): it only exposes where the weights are and the sampling
settings that belong to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["DEFAULTS", "WEIGHTS_DIR", "DemoDefaults"]

WEIGHTS_DIR = Path(__file__).resolve().parent / "weights"
"""Folder of the saved diffusers ``WanPipeline``."""


@dataclass(frozen=True)
class DemoDefaults:
    """Sampling settings the demonstration model was trained for.

    Attributes:
        height: Frame height in pixels.
        width: Frame width in pixels.
        num_frames: Frames per clip; one more than a multiple of four.
        fps: Frames per second at which clips are meant to be played.
        num_inference_steps: Denoising steps.
        guidance_scale: Classifier-free guidance scale.
        flow_shift: Shift of the flow-matching noise schedule.
        max_sequence_length: Length in tokens to which captions are zero-padded. ``WanPipeline``
            lets cross-attention see the padding, so another length gives another clip.
    """

    height: int = 64
    width: int = 64
    num_frames: int = 17
    fps: int = 8
    num_inference_steps: int = 50
    guidance_scale: float = 4.0
    flow_shift: float = 3.0
    max_sequence_length: int = 32


DEFAULTS = DemoDefaults()
