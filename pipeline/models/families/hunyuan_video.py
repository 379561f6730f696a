"""The family HunyuanVideo: text to video, with distilled guidance.

Settings are those of Tencent-Hunyuan/HunyuanVideo and its examples in diffusers.
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
from pipeline.models.samplers import EULER, LCM
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import ModelSpec, PipelineClass, SamplingDefaults


class HunyuanVideoFamily(ModelFamily):
    """What HunyuanVideo does in its own way."""

    def precision(self, dtype: str) -> dict[str, str]:
        """The network in bfloat16 and all else in float16, where bfloat16 is asked for."""
        if dtype == "bfloat16":
            return {"default": "float16", "transformer": "bfloat16"}
        return {"default": dtype}


def _layers(attention: Any) -> tuple[AttentionLayers, AttentionLayers]:
    """Blocks of the dual stream have layers of their own for text; single-stream blocks do not."""
    video = (attention.to_q, attention.to_k, attention.to_v, attention.norm_q, attention.norm_k)
    if attention.add_q_proj is None:
        return video, video
    text = (
        attention.add_q_proj,
        attention.add_k_proj,
        attention.add_v_proj,
        attention.norm_added_q,
        attention.norm_added_k,
    )
    return video, text


def _project_out(attention: Any, video: Any, text: Any) -> tuple[Any, Any]:
    """A single-stream block projects its outputs behind the attention, not in it."""
    if getattr(attention, "to_out", None) is not None:
        video = attention.to_out[1](attention.to_out[0](video))
    if getattr(attention, "to_add_out", None) is not None:
        text = attention.to_add_out(text)
    return video, text


def _split_positions(network: Any, own_part: Callable[[Any], Any]) -> None:
    """Split the rotary embeddings, which a module of the network makes."""
    network.rope.register_forward_hook(
        lambda module, args, output: tuple(own_part(each) for each in output)
    )


HUNYUAN_VIDEO = HunyuanVideoFamily(
    name="hunyuan_video",
    samplers=(EULER, LCM),
    random_samplers=(LCM,),
    # Its attention comes with a mask of the text, and flash attention takes no mask.
    attention_kernels=("auto", "sdpa", "cudnn"),
    splits={"context_parallel": ULYSSES_ONLY},
    joint=JointAttention("attn", _layers, _project_out, _split_positions),
    shares_decoder=True,
)

_DEFAULTS = SamplingDefaults(
    width=1280,
    height=720,
    num_frames=129,
    fps=24,
    num_inference_steps=50,
    guidance_scale=6.0,
    max_sequence_length=256,
    sampler=EULER,
    flow_shift=7.0,
)

_SOURCES = {
    "*": "Tencent-Hunyuan/HunyuanVideo README.md and hyvideo/config.py",
    "max_sequence_length": "diffusers HunyuanVideoPipeline: default of its call",
    "multiple": "diffusers HunyuanVideoPipeline: stride of the VAE (8) x patch (2)",
    "frame_stride": "diffusers HunyuanVideoPipeline: stride of the VAE in time",
}

TEXT_TO_VIDEO = PipelineClass(
    name="HunyuanVideoPipeline",
    family=HUNYUAN_VIDEO,
    sizes=SizeRules(multiple=16, frame_stride=4),
    defaults=_DEFAULTS,
    sources=_SOURCES,
    text_embeddings=("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask"),
    distilled_guidance=True,
)

PIPELINES = (TEXT_TO_VIDEO,)

MODELS = (
    ModelSpec(
        name="hunyuanvideo",
        network_shape={"num_layers": 20, "num_single_layers": 40, "num_attention_heads": 24},
        pipeline=TEXT_TO_VIDEO,
        hub_id="hunyuanvideo-community/HunyuanVideo",
        revision="e8c2aaa66fe3742a32c11a6766aecbf07c56e773",
        licence="tencent-hunyuan-community",
        dtype="bfloat16",
        defaults=_DEFAULTS,
        sources=_SOURCES,
        # As the authors' example: 129 frames of 1280x720 decoded at once crowd out the network.
        vae_tiling=True,
    ),
)
