"""The family SkyReels V2: networks of Wan's shape, text to video and image to video.

Settings are those of the examples of diffusers. Its diffusion forcing pipelines make long clips
frame by frame; no rule here fits their loop.
"""

from __future__ import annotations

import dataclasses

from pipeline.models.families.wan import WanFamily
from pipeline.models.samplers import DPM_SOLVER, EULER, UNIPC
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import PipelineClass, SamplingDefaults
from pipeline.prompts.condition_columns import FIRST_IMAGE

SKYREELS_V2 = WanFamily(name="skyreels_v2", samplers=(UNIPC, EULER, DPM_SOLVER))

TEXT_TO_VIDEO = PipelineClass(
    name="SkyReelsV2Pipeline",
    family=SKYREELS_V2,
    sizes=SizeRules(multiple=16, frame_stride=4),
    defaults=SamplingDefaults(
        width=960,
        height=544,
        num_frames=97,
        fps=24,
        num_inference_steps=50,
        guidance_scale=6.0,
        max_sequence_length=512,
        sampler=UNIPC,
        flow_shift=8.0,
    ),
    sources={
        "*": "example of diffusers SkyReelsV2Pipeline",
        "max_sequence_length": "diffusers SkyReelsV2Pipeline: default of its call",
        "multiple": "diffusers SkyReelsV2Pipeline: stride of the VAE (8) x patch (2)",
        "frame_stride": "diffusers SkyReelsV2Pipeline: stride of the VAE in time",
    },
    text_embeddings=("prompt_embeds", "negative_prompt_embeds"),
)

IMAGE_TO_VIDEO = dataclasses.replace(
    TEXT_TO_VIDEO,
    name="SkyReelsV2ImageToVideoPipeline",
    defaults=dataclasses.replace(TEXT_TO_VIDEO.defaults, guidance_scale=5.0, flow_shift=5.0),
    sources={
        "*": "example of diffusers SkyReelsV2ImageToVideoPipeline",
        "max_sequence_length": "diffusers SkyReelsV2ImageToVideoPipeline: default of its call",
        "multiple": "diffusers SkyReelsV2ImageToVideoPipeline: stride of the VAE (8) x patch (2)",
        "frame_stride": "diffusers SkyReelsV2ImageToVideoPipeline: stride of the VAE in time",
    },
    conditions=(FIRST_IMAGE,),
)

PIPELINES = (TEXT_TO_VIDEO, IMAGE_TO_VIDEO)

MODELS = ()
