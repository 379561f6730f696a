"""The parts of the registry's models in their true shapes, for fake tensors.

Shapes are those of the published `config.json` files. What is missing here has the defaults of its
class in diffusers 0.42, which are the published values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.models.spec import ModelSpec

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class ModelParts:
    """Classes and settings of a model's parts.

    Attributes:
        network: Class of the transformer in diffusers.
        settings: Settings of the transformer.
        layers: Settings that name a number of layers, which do not change a forward's peak.
        networks: Transformers that the model holds.
        vae: Class of the VAE in diffusers.
        texts: Its text encoders: class and configuration class in transformers, and settings.
        image_encoder: Whether it holds the image encoder of Wan 2.1.
        vae_settings: Settings of the VAE.
        token_times: Whether the network gets a time for each token, as Wan 2.2 5B does.
        guidance_rows: Rows of one network call per clip: 2 where the pipeline puts both branches of
            guidance into one call.
        inputs: From the network, rows, the latents' size (frames, height, width) and the tokens of
            the text to the arguments of a call.
    """

    network: str
    vae: str
    texts: tuple[tuple[str, str, Settings], ...]
    inputs: Callable[[Any, int, tuple[int, int, int], int], dict[str, Any]]
    settings: Settings = field(default_factory=dict)
    layers: tuple[str, ...] = ("num_layers",)
    networks: int = 1
    image_encoder: bool = False
    guidance_rows: int = 1
    vae_settings: Settings = field(default_factory=dict)
    token_times: bool = False


def _video_latents(network: Any, rows: int, latents: tuple[int, int, int]) -> Any:
    import torch

    return torch.empty(rows, network.config.in_channels, *latents, dtype=network.dtype)


def _wan_inputs(
    network: Any, rows: int, latents: tuple[int, int, int], tokens: int
) -> dict[str, Any]:
    import torch

    settings = network.config
    inputs = {
        "hidden_states": _video_latents(network, rows, latents),
        "timestep": torch.empty(rows),
        "encoder_hidden_states": torch.empty(rows, tokens, settings.text_dim, dtype=network.dtype),
    }
    if settings.image_dim:
        image = torch.empty(rows, 257, settings.image_dim, dtype=network.dtype)
        inputs["encoder_hidden_states_image"] = image
    return inputs


def _cogvideox_inputs(
    network: Any, rows: int, latents: tuple[int, int, int], tokens: int
) -> dict[str, Any]:
    import torch

    frames, height, width = latents
    settings = network.config
    inputs: dict[str, Any] = {
        "hidden_states": _video_latents(network, rows, latents).transpose(1, 2),
        "timestep": torch.empty(rows),
        "encoder_hidden_states": torch.empty(
            rows, tokens, settings.text_embed_dim, dtype=network.dtype
        ),
    }
    if settings.use_rotary_positional_embeddings:
        patches = frames * (height // 2) * (width // 2)
        table = torch.empty(patches, settings.attention_head_dim)
        inputs["image_rotary_emb"] = (table, table.clone())
    return inputs


def _ltx_inputs(
    network: Any, rows: int, latents: tuple[int, int, int], tokens: int
) -> dict[str, Any]:
    import torch

    frames, height, width = latents
    settings = network.config
    return {
        "hidden_states": torch.empty(
            rows, frames * height * width, settings.in_channels, dtype=network.dtype
        ),
        "encoder_hidden_states": torch.empty(
            rows, tokens, settings.caption_channels, dtype=network.dtype
        ),
        "encoder_attention_mask": torch.empty(rows, tokens),
        "timestep": torch.empty(rows),
        "num_frames": frames,
        "height": height,
        "width": width,
    }


def _hunyuan_inputs(
    network: Any, rows: int, latents: tuple[int, int, int], tokens: int
) -> dict[str, Any]:
    import torch

    settings = network.config
    return {
        "hidden_states": _video_latents(network, rows, latents),
        "timestep": torch.empty(rows),
        "encoder_hidden_states": torch.empty(
            rows, tokens, settings.text_embed_dim, dtype=network.dtype
        ),
        "encoder_attention_mask": torch.empty(rows, tokens, dtype=torch.bool),
        "pooled_projections": torch.empty(
            rows, settings.pooled_projection_dim, dtype=network.dtype
        ),
        "guidance": torch.empty(rows, dtype=network.dtype),
    }


_XXL: Settings = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
_GATED: Settings = {"feed_forward_proj": "gated-gelu"}
_UMT5 = (("UMT5EncoderModel", "UMT5Config", {**_XXL, **_GATED, "vocab_size": 256384}),)
_T5 = (("T5EncoderModel", "T5Config", {**_XXL, **_GATED, "vocab_size": 32128}),)
_LLAMA: Settings = {
    "vocab_size": 128320,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
_CLIP: Settings = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}

_VAE_2_2: Settings = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}
"""Of Wan-AI/Wan2.2-TI2V-5B-Diffusers vae/config.json."""

_WAN_14B: Settings = {"num_layers": 40, "num_attention_heads": 40, "ffn_dim": 13824}


def _wan(settings: Settings, **rest: Any) -> ModelParts:
    return ModelParts(
        "WanTransformer3DModel", "AutoencoderKLWan", _UMT5, _wan_inputs, settings, **rest
    )


def _cogvideox(**settings: Any) -> ModelParts:
    return ModelParts(
        "CogVideoXTransformer3DModel",
        "AutoencoderKLCogVideoX",
        _T5,
        _cogvideox_inputs,
        settings,
        guidance_rows=2,
    )


_LTX = ModelParts(
    "LTXVideoTransformer3DModel", "AutoencoderKLLTXVideo", _T5, _ltx_inputs, guidance_rows=2
)

PARTS: dict[str, ModelParts] = {
    "wan2.1-t2v-1.3b": _wan({"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960}),
    "wan2.1-t2v-14b": _wan(_WAN_14B),
    "wan2.2-t2v-a14b": _wan(_WAN_14B, networks=2),
    "wan2.2-ti2v-5b": _wan(
        {
            "num_attention_heads": 24,
            "ffn_dim": 14336,
            "num_layers": 30,
            "in_channels": 48,
            "out_channels": 48,
        },
        vae_settings=_VAE_2_2,
        token_times=True,
    ),
    "wan2.1-i2v-14b": _wan(
        {**_WAN_14B, "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
        image_encoder=True,
    ),
    "cogvideox-2b": _cogvideox(),
    "cogvideox-5b": _cogvideox(
        num_attention_heads=48, num_layers=42, use_rotary_positional_embeddings=True
    ),
    "ltx-video": _LTX,
    "ltx-video-i2v": _LTX,
    "hunyuanvideo": ModelParts(
        "HunyuanVideoTransformer3DModel",
        "AutoencoderKLHunyuanVideo",
        (
            ("LlamaModel", "LlamaConfig", _LLAMA),
            ("CLIPTextModel", "CLIPTextConfig", _CLIP),
        ),
        _hunyuan_inputs,
        layers=("num_layers", "num_single_layers"),
    ),
}
"""By the names of the registry, all but the embedded model."""

VISION: Settings = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
"""The image encoder of Wan 2.1: the vision part of CLIP ViT-H/14."""


def latent_size(spec: ModelSpec, size: tuple[int, int, int]) -> tuple[int, int, int]:
    """Frames, height and width of the latents of a clip of (width, height, frames)."""
    width, height, frames = size
    own = PARTS[spec.name].vae_settings
    # CogVideoX accepts sizes by a stride of 8 frames, of which its VAE makes latents by 4.
    stride = {"cogvideox": 4}.get(spec.family.name, spec.sizes.frame_stride)
    space = 32 if spec.family.name == "ltx" else int(own.get("scale_factor_spatial", 8))
    return 1 + (frames - 1) // stride, height // space, width // space
