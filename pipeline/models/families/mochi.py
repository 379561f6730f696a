"""The family Mochi: text to video, with a time that rises from noise to clip.

Settings are those of genmo/mochi-1-preview and its example in diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.models.families.base import ModelFamily
from pipeline.models.samplers import EULER
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import PipelineClass, SamplingDefaults


class MochiFamily(ModelFamily):
    """What Mochi does in its own way."""

    def tokens(self, network: Any, latents: Sequence[int]) -> int:
        """Patches of latents of shape [rows, channels, frames, height, width]."""
        side: int = network.config.patch_size
        return latents[2] * math.prod(size // side for size in latents[3:])


MOCHI = MochiFamily(
    name="mochi",
    samplers=(EULER,),
    attention_kernels=("auto", "sdpa"),  # its processor calls torch's attention itself
)

TEXT_TO_VIDEO = PipelineClass(
    name="MochiPipeline",
    family=MOCHI,
    sizes=SizeRules(multiple=16, frame_stride=6),
    # Its pipeline spaces the sigmas itself: no flow_shift here.
    defaults=SamplingDefaults(
        width=848,
        height=480,
        num_frames=163,
        fps=30,
        num_inference_steps=64,
        guidance_scale=4.5,
        max_sequence_length=256,
        sampler=EULER,
    ),
    sources={
        "*": "defaults of MochiPipeline in diffusers 0.42",
        "num_frames": "diffusers documentation of Mochi: the results of Genmo's repository",
        "fps": "diffusers documentation of Mochi: the results of Genmo's repository",
        "sampler": "genmo/mochi-1-preview model_index.json",
        "multiple": "diffusers MochiPipeline: stride of the VAE (8) x patch (2)",
        "frame_stride": "diffusers MochiPipeline: stride of the VAE in time",
    },
    text_embeddings=(
        "prompt_embeds",
        "prompt_attention_mask",
        "negative_prompt_embeds",
        "negative_prompt_attention_mask",
    ),
)

PIPELINES = (TEXT_TO_VIDEO,)

MODELS = ()
