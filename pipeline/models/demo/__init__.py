"""The embedded demonstration model: a tiny, trained text-to-video model of moving shapes.

Importing this package loads no torch: it only says where the weights are, and with which settings
to sample. The model is in the registry as `demo`, in the family Wan.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.models.spec import SamplingDefaults

WEIGHTS_DIR = Path(__file__).resolve().parent / "weights"
"""Folder of the saved diffusers `WanPipeline`."""

FLOW_SHIFT = 3.0
"""Shift of the noise schedule, in training and in sampling."""

DEFAULTS = SamplingDefaults(
    width=64,
    height=64,
    num_frames=17,
    fps=8,
    num_inference_steps=50,
    guidance_scale=4.0,
    # Captions are padded to this length, and cross-attention sees the padding.
    max_sequence_length=32,
    sampler="FlowMatchEulerDiscreteScheduler",
    flow_shift=FLOW_SHIFT,
)
