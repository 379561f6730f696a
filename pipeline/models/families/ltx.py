"""The family LTX-Video: text to video, and image to video with the same weights.

Settings are those of Lightricks/LTX-Video and its examples in diffusers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.models.families.base import ULYSSES_AND_RING, ModelFamily
from pipeline.models.samplers import EULER, LCM
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import ModelSpec, PipelineClass, SamplingDefaults
from pipeline.prompts.condition_columns import FIRST_IMAGE
from pipeline.requests.sample_request import SampleRequest


class LtxFamily(ModelFamily):
    """What LTX-Video does in its own way."""

    def context_parallel_plan(self, network: Any) -> Mapping[str, Any]:
        """Split the video tokens and leave the text whole.

        The plan of diffusers 0.42 splits the text too, and then fails where the text comes with a
        mask. Text is short: every rank keeps all of it, and only self-attention is split.
        """
        from diffusers.models._modeling_parallel import ContextParallelInput

        tokens = ContextParallelInput(split_dim=1, expected_dims=3)
        per_token = ContextParallelInput(split_dim=1, expected_dims=2)  # where there is an image
        rotary = ContextParallelInput(split_dim=1, expected_dims=3, split_output=True)
        return {
            "": {"hidden_states": tokens, "timestep": per_token},
            "rope": {0: rotary, 1: rotary},
        }


def _frame_rate(request: SampleRequest) -> dict[str, Any]:
    """The frame rate, which scales the network's positions in time."""
    return {"frame_rate": request.fps}


LTX = LtxFamily(
    name="ltx",
    samplers=(EULER, LCM),
    random_samplers=(LCM,),
    default_attention=("attn2",),  # the attention to the text comes with a mask
    splits={"context_parallel": ULYSSES_AND_RING},
)

# Its scheduler derives the shift from the number of tokens: no flow_shift here.
_DEFAULTS = SamplingDefaults(
    width=704,
    height=480,
    num_frames=161,
    fps=24,
    num_inference_steps=50,
    guidance_scale=3.0,
    max_sequence_length=128,
    sampler=EULER,
    negative_prompt="worst quality, inconsistent motion, blurry, jittery, distorted",
)

_SOURCES = {
    "*": "diffusers LTXPipeline: its example and the defaults of its call",
    "multiple": "Lightricks/LTX-Video README.md: divisible by 32",
    "frame_stride": "Lightricks/LTX-Video README.md: divisible by 8, plus 1",
    "min_frames": "diffusers LTXImageToVideoPipeline: the first frame is given",
}

TEXT_TO_VIDEO = PipelineClass(
    name="LTXPipeline",
    family=LTX,
    sizes=SizeRules(multiple=32, frame_stride=8),
    defaults=_DEFAULTS,
    sources=_SOURCES,
    text_embeddings=(
        "prompt_embeds",
        "prompt_attention_mask",
        "negative_prompt_embeds",
        "negative_prompt_attention_mask",
    ),
    call_arguments=_frame_rate,
)

IMAGE_TO_VIDEO = dataclasses.replace(
    TEXT_TO_VIDEO,
    name="LTXImageToVideoPipeline",
    # The first frame is the image: a clip of one leaves nothing to sample.
    sizes=SizeRules(multiple=32, frame_stride=8, min_frames=9),
    conditions=(FIRST_IMAGE,),
    saved_as=("LTXPipeline",),  # one set of weights for both
)

CONDITIONED = dataclasses.replace(
    TEXT_TO_VIDEO,
    name="LTXConditionPipeline",  # versions 0.9.5 and later; without conditions it starts from text
    defaults=dataclasses.replace(_DEFAULTS, width=768, height=512, num_inference_steps=40),
    sources={
        **_SOURCES,
        **dict.fromkeys(
            ("width", "height", "num_frames", "fps", "num_inference_steps", "negative_prompt"),
            "example of diffusers LTXConditionPipeline",
        ),
    },
)

PIPELINES = (TEXT_TO_VIDEO, IMAGE_TO_VIDEO, CONDITIONED)

_TEXT_MODEL = ModelSpec(
    name="ltx-video",
    network_shape={"num_layers": 28, "num_attention_heads": 32, "attention_head_dim": 64},
    pipeline=TEXT_TO_VIDEO,
    hub_id="Lightricks/LTX-Video",
    revision="8984fa25007f376c1a299016d0957a37a2f797bb",
    licence="LTX-Video-Open-Weights-License-0.X",
    dtype="bfloat16",
    defaults=_DEFAULTS,
    sources=_SOURCES,
)

MODELS = (
    _TEXT_MODEL,
    dataclasses.replace(_TEXT_MODEL, name="ltx-video-i2v", pipeline=IMAGE_TO_VIDEO),
)
