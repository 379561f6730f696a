"""The family CogVideoX: 2B and 5B, text to video.

Settings are those of zai-org/CogVideo (`inference/cli_demo.py`) and its examples in diffusers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.models.families.base import (
    ULYSSES_ONLY,
    AttentionLayers,
    JointAttention,
    ModelFamily,
)
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import ModelSpec, PipelineClass, SamplingDefaults
from pipeline.requests.sample_request import SampleRequest

DDIM = "CogVideoXDDIMScheduler"
DPM = "CogVideoXDPMScheduler"


def _call_arguments(request: SampleRequest) -> dict[str, Any]:
    """Dynamic guidance, which the authors set for their DPM sampler only."""
    return {"use_dynamic_cfg": True} if request.sampler == DPM else {}


def _layers(attention: Any) -> tuple[AttentionLayers, AttentionLayers]:
    """Text and video go through the same layers."""
    own = (attention.to_q, attention.to_k, attention.to_v, attention.norm_q, attention.norm_k)
    return own, own


def _project_out(attention: Any, video: Any, text: Any) -> tuple[Any, Any]:
    linear, dropout = attention.to_out
    return dropout(linear(video)), dropout(linear(text))


def _split_positions(network: Any, own_part: Callable[[Any], Any]) -> None:
    """Split the rotary embeddings, which the pipeline gives to the network as an argument."""

    def split(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if (rotary := kwargs.get("image_rotary_emb")) is not None:
            kwargs = kwargs | {"image_rotary_emb": tuple(own_part(each) for each in rotary)}
        return args, kwargs

    network.register_forward_pre_hook(split, with_kwargs=True)


COGVIDEOX = ModelFamily(
    name="cogvideox",
    samplers=(DDIM, DPM),
    random_samplers=(DPM,),
    # Trained with zero terminal SNR: the first step must be the last timestep.
    scheduler_settings={"timestep_spacing": "trailing"},
    attention_kernels=("auto", "sdpa"),  # its attention always asks torch for the kernel
    splits={"context_parallel": ULYSSES_ONLY},
    joint=JointAttention("attn1", _layers, _project_out, _split_positions),
)

_DEFAULTS = SamplingDefaults(
    width=720,
    height=480,
    num_frames=49,
    fps=8,
    num_inference_steps=50,
    guidance_scale=6.0,
    max_sequence_length=226,
    # The authors' example takes DPM, which is random: no cache schedule can be planned for it.
    sampler=DDIM,
)

_CARDS = (
    "model cards zai-org/CogVideoX-2b and CogVideoX-5b: 720 x 480, 6 seconds at 8 frames per second"
)
_SOURCES = {
    "*": "zai-org/CogVideo inference/cli_demo.py",
    "width": _CARDS,
    "height": _CARDS,
    "num_frames": _CARDS,
    "fps": _CARDS,
    "max_frames": _CARDS,
    "max_pixels": f"{_CARDS}; no other resolution",
    "max_sequence_length": "model cards zai-org/CogVideoX-2b and CogVideoX-5b: 226 tokens",
    "sampler": "zai-org/CogVideo inference/cli_demo.py for 2B; 5B's DPM is random, and no cache "
    "schedule can be planned for it",
    "multiple": "diffusers CogVideoXPipeline: stride of the VAE (8) x patch (2)",
    "frame_stride": "zai-org/CogVideo README.md: 8N + 1 frames",
}

TEXT_TO_VIDEO = PipelineClass(
    name="CogVideoXPipeline",
    family=COGVIDEOX,
    sizes=SizeRules(multiple=16, frame_stride=8),
    defaults=_DEFAULTS,
    sources=_SOURCES,
    text_embeddings=("prompt_embeds", "negative_prompt_embeds"),
    prediction="v",
    call_arguments=_call_arguments,
)

PIPELINES = (TEXT_TO_VIDEO,)

_OWN_SIZES = SizeRules(multiple=16, frame_stride=8, max_frames=49, max_pixels=720 * 480)
"""The cards: 720x480 and 49 frames, and no other resolution. Smaller ones are left to the user."""

MODELS = (
    ModelSpec(
        name="cogvideox-2b",
        text_length=226,
        network_shape={"num_layers": 30, "num_attention_heads": 30},
        pipeline=TEXT_TO_VIDEO,
        hub_id="zai-org/CogVideoX-2b",
        revision="1137dacfc2c9c012bed6a0793f4ecf2ca8e7ba01",
        licence="Apache-2.0",
        dtype="float16",
        defaults=_DEFAULTS,
        sources=_SOURCES,
        own_sizes=_OWN_SIZES,
    ),
    ModelSpec(
        name="cogvideox-5b",
        network_shape={"num_layers": 42, "num_attention_heads": 48, "patch_size_t": None},
        pipeline=TEXT_TO_VIDEO,
        hub_id="zai-org/CogVideoX-5b",
        revision="8fc5b281006c82b82d34fd2543d2f0ebb4e7e321",
        licence="CogVideoX License",
        dtype="bfloat16",
        defaults=_DEFAULTS,
        sources=_SOURCES,
        own_sizes=_OWN_SIZES,
    ),
)
