"""The family Wan: Wan 2.1 and 2.2, and the demo model, which has their shape.

Settings are those of the README and configuration of Wan-Video/Wan2.1 and 2.2, and of their
examples in diffusers.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

from pipeline.models import demo
from pipeline.models.families.base import ULYSSES_AND_RING, ModelFamily
from pipeline.models.samplers import DPM_SOLVER, EULER, LCM, UNIPC
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import ModelSpec, PipelineClass, SamplingDefaults
from pipeline.prompts.condition_columns import FIRST_IMAGE


class WanFamily(ModelFamily):
    """What Wan does in its own way."""

    def precision(self, dtype: str) -> dict[str, str]:
        """Decode and read images in float32: half precision costs visible quality."""
        return {"default": dtype, "vae": "float32", "image_encoder": "float32"}

    def tokens(self, network: Any, latents: Sequence[int]) -> int:
        """Patches of latents of shape [rows, channels, frames, height, width]."""
        patch: Sequence[int] = network.config.patch_size
        return math.prod(size // side for size, side in zip(latents[2:], patch, strict=True))


WAN = WanFamily(
    name="wan",
    samplers=(UNIPC, EULER, DPM_SOLVER, LCM),
    random_samplers=(LCM,),
    splits={"xfuser": ULYSSES_AND_RING, "context_parallel": ULYSSES_AND_RING},
    xfuser_network=(
        "xfuser.model_executor.models.transformers.transformer_wan:xFuserWanTransformer3DWrapper"
    ),
    shares_decoder=True,
)

_NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，"
    "形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
"""`sample_neg_prompt` of Wan 2.1 and 2.2: the models were tuned with it, in Chinese."""

_sampling = functools.partial(
    SamplingDefaults,
    num_frames=81,
    fps=16,
    max_sequence_length=512,
    sampler=UNIPC,
    negative_prompt=_NEGATIVE_PROMPT,
)

_STRIDES = "diffusers WanPipeline: strides of the VAE (8 and 4) x patch (2 and 1)"
_POSITIONS = "diffusers WanTransformer3DModel: rope_max_seq_len 1024 latent frames"
_SHIFTS = "diffusers WanPipeline, example: flow_shift 5.0 for 720P, 3.0 for 480P"
_SOURCES = {
    "*": "Wan-Video/Wan2.1 README.md, generate.py and wan/configs",
    "negative_prompt": "Wan-Video/Wan2.1 wan/configs/shared_config.py: sample_neg_prompt",
    "flow_shift": _SHIFTS,
    "small_shift": _SHIFTS,
    "multiple": _STRIDES,
    "frame_stride": _STRIDES,
    "max_frames": _POSITIONS,
}
_SMALL = "Wan-Video/Wan2.1 README.md: sample_guide_scale 6 and sample_shift 8 to 12 for T2V-1.3B"
_SOURCES_1_3B = _SOURCES | {"guidance_scale": _SMALL, "flow_shift": _SMALL}
_EXPERTS = "Wan-Video/Wan2.2 wan/configs/wan_t2v_A14B.py"
_BOTH_SCALES = f"{_EXPERTS}: sample_guide_scale 3.0 at low noise, 4.0 at high noise"
_SOURCES_2_2 = {
    "*": _EXPERTS,
    "guidance_scale": _BOTH_SCALES,
    "guidance_scale_2": _BOTH_SCALES,
    "negative_prompt": "Wan-Video/Wan2.2 wan/configs/shared_config.py: sample_neg_prompt",
    "multiple": _STRIDES,
    "frame_stride": _STRIDES,
    "max_frames": _POSITIONS,
}
_5B = "Wan-Video/Wan2.2 wan/configs/wan_ti2v_5B.py"
_SOURCES_5B = _SOURCES_2_2 | {
    "*": _5B,
    "guidance_scale": f"{_5B}: sample_guide_scale 5.0",
    "width": "Wan-Video/Wan2.2 README.md: 720P of TI2V-5B is 1280*704 or 704*1280",
    "height": "Wan-Video/Wan2.2 README.md: 720P of TI2V-5B is 1280*704 or 704*1280",
    "multiple": "diffusers WanPipeline: stride of the VAE of Wan 2.2 5B (16) x patch (2)",
}

_480P_OR_720P = (832 * 480, 3.0, 5.0)
"""Flow shift of Wan 2.1 up to 480p, and above."""

_14B = {"num_layers": 40, "num_attention_heads": 40, "ffn_dim": 13824}

_MAX_FRAMES = 4 * (1024 - 1) + 1
_SIZES = SizeRules(multiple=16, frame_stride=4, max_frames=_MAX_FRAMES)

TEXT_TO_VIDEO = PipelineClass(
    name="WanPipeline",
    family=WAN,
    sizes=_SIZES,
    defaults=_sampling(
        width=832,
        height=480,
        num_inference_steps=50,
        guidance_scale=5.0,
        flow_shift=3.0,
        small_shift=_480P_OR_720P,
    ),
    sources=_SOURCES,
    text_embeddings=("prompt_embeds", "negative_prompt_embeds"),
)

IMAGE_TO_VIDEO = dataclasses.replace(
    TEXT_TO_VIDEO,
    name="WanImageToVideoPipeline",
    defaults=dataclasses.replace(TEXT_TO_VIDEO.defaults, num_inference_steps=40),
    conditions=(FIRST_IMAGE,),
)

PIPELINES = (TEXT_TO_VIDEO, IMAGE_TO_VIDEO)

_model = functools.partial(
    ModelSpec,
    pipeline=TEXT_TO_VIDEO,
    licence="Apache-2.0",
    dtype="bfloat16",
    sources=_SOURCES,
)

MODELS = (
    _model(
        name="demo",
        network_shape={"num_layers": 6, "num_attention_heads": 6, "ffn_dim": 768},
        hub_id="",
        revision="",
        dtype="float32",
        defaults=demo.DEFAULTS,
        sources={"*": "pipeline/models/demo/MODEL_CARD.md: as it was trained"},
        batch_rows=4,
        profile="profile.json",
    ),
    _model(
        name="wan2.1-t2v-1.3b",
        sources=_SOURCES_1_3B,
        network_shape={"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960},
        weights_gb=14.7,
        hub_id="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        revision="0fad780a534b6463e45facd96134c9f345acfa5b",
        defaults=_sampling(
            width=832, height=480, num_inference_steps=50, guidance_scale=6.0, flow_shift=8.0
        ),
    ),
    _model(
        name="wan2.1-t2v-14b",
        network_shape=_14B,
        weights_gb=40.5,
        hub_id="Wan-AI/Wan2.1-T2V-14B-Diffusers",
        revision="38ec498cb3208fb688890f8cc7e94ede2cbd7f68",
        defaults=_sampling(
            width=1280,
            height=720,
            num_inference_steps=50,
            guidance_scale=5.0,
            flow_shift=5.0,
            small_shift=_480P_OR_720P,
        ),
    ),
    _model(
        name="wan2.2-t2v-a14b",
        network_shape=_14B,
        weights_gb=69.2,
        tiles_by_need=True,  # 69 GB of weights leave 16 of an H100, and a whole decode takes 22
        hub_id="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
        revision="5be7df9619b54f4e2667b2755bc6a756675b5cd7",
        two_networks=True,
        sources=_SOURCES_2_2,
        defaults=_sampling(
            width=1280,
            height=720,
            num_inference_steps=40,
            guidance_scale=4.0,
            guidance_scale_2=3.0,
            flow_shift=12.0,
        ),
    ),
    _model(
        name="wan2.2-ti2v-5b",
        published_as="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        network_shape={"num_layers": 30, "num_attention_heads": 24, "ffn_dim": 14336},
        hub_id="",
        revision="",
        sources=_SOURCES_5B,
        defaults=_sampling(
            width=1280,
            height=704,
            num_frames=121,
            fps=24,
            num_inference_steps=50,
            guidance_scale=5.0,
            flow_shift=5.0,
        ),
        own_sizes=SizeRules(multiple=32, frame_stride=4, max_frames=_MAX_FRAMES),
    ),
    _model(
        network_shape=_14B,
        name="wan2.1-i2v-14b",
        published_as="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        hub_id="",
        revision="",
        pipeline=IMAGE_TO_VIDEO,
        defaults=IMAGE_TO_VIDEO.defaults,
    ),
)
