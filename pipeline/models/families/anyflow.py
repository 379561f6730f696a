"""The family AnyFlow: text to video in few steps, by a network that predicts mean velocities.

Settings are those of the example of diffusers. Guidance is distilled into the weights: the scale of
1 makes no second evaluation.
"""

from __future__ import annotations

from pipeline.models.families.wan import WanFamily
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import PipelineClass, SamplingDefaults

FLOW_MAP = "FlowMapEulerDiscreteScheduler"


ANYFLOW = WanFamily(
    name="anyflow",
    samplers=(FLOW_MAP,),
    scheduler_settings={},  # those saved with the weights
)

TEXT_TO_VIDEO = PipelineClass(
    name="AnyFlowPipeline",
    family=ANYFLOW,
    sizes=SizeRules(multiple=16, frame_stride=4),
    defaults=SamplingDefaults(
        width=832,
        height=480,
        num_frames=33,
        fps=16,
        num_inference_steps=4,
        guidance_scale=1.0,
        max_sequence_length=512,
        sampler=FLOW_MAP,
    ),
    sources={
        "*": "diffusers AnyFlowPipeline: defaults of its call",
        "num_frames": "example of diffusers AnyFlowPipeline",
        "fps": "example of diffusers AnyFlowPipeline",
        "num_inference_steps": "example of diffusers AnyFlowPipeline",
        "multiple": "diffusers AnyFlowPipeline: stride of the VAE (8) x patch (2)",
        "frame_stride": "diffusers AnyFlowPipeline: stride of the VAE in time",
    },
    text_embeddings=("prompt_embeds", "negative_prompt_embeds"),
)

PIPELINES = (TEXT_TO_VIDEO,)

MODELS = ()
