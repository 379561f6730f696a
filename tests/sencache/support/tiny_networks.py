"""A tiny random network of every family without its pipeline, and inputs for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    CogVideoXTransformer3DModel,
    HunyuanVideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    MochiTransformer3DModel,
    WanVACETransformer3DModel,
)

from tests.sencache.support.toys import tiny_wan

ROWS = 3


def tiny_cogvideox() -> torch.nn.Module:
    return CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=8,
        num_layers=3,
        sample_width=4,
        sample_height=4,
        sample_frames=5,
        max_text_seq_length=5,
        use_rotary_positional_embeddings=False,
    )


def tiny_ltx() -> torch.nn.Module:
    return LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=3,
        caption_channels=8,
    )


def tiny_hunyuan_video() -> torch.nn.Module:
    return HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        guidance_embeds=False,
        text_embed_dim=8,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
    )


def tiny_mochi() -> torch.nn.Module:
    return MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=3,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=16,
        time_embed_dim=4,
        max_sequence_length=5,
    )


def tiny_vace(vace_layers: tuple[int, ...] = (0, 2)) -> torch.nn.Module:
    return WanVACETransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=4,
        rope_max_seq_len=32,
        vace_layers=list(vace_layers),
        vace_in_channels=8,
    )


def inputs(family: str, seed: int, rows: int = ROWS) -> dict[str, Any]:
    """Random arguments of a family's forward; the text is of another length than the latents."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(rows, *shape, generator=generator)

    known: dict[str, Any] = {
        "timestep": torch.randint(1, 1000, (rows,), generator=generator),
        "return_dict": False,
    }
    masks = {"encoder_attention_mask": torch.ones(rows, 5, dtype=torch.bool)}
    wan = {"hidden_states": randn(4, 2, 4, 4), "encoder_hidden_states": randn(6, 16)}
    own: dict[str, dict[str, Any]] = {
        "wan": wan,
        "vace": wan | {"control_hidden_states": randn(8, 2, 4, 4)},
        "cogvideox": {
            "hidden_states": randn(2, 4, 4, 4),
            "encoder_hidden_states": randn(5, 8),
        },
        "ltx": {
            "hidden_states": randn(12, 8),
            "encoder_hidden_states": randn(5, 8),
            "num_frames": 3,
            "height": 2,
            "width": 2,
            **masks,
        },
        "hunyuan_video": {
            "hidden_states": randn(4, 2, 3, 3),
            "encoder_hidden_states": randn(5, 8),
            "pooled_projections": randn(8),
            **masks,
        },
        "mochi": {
            "hidden_states": randn(4, 2, 4, 4),
            "encoder_hidden_states": randn(5, 16),
            **masks,
        },
    }
    return known | own[family]


def pick(arguments: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    return {
        name: value[rows] if isinstance(value, torch.Tensor) else value
        for name, value in arguments.items()
    }


NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "wan": tiny_wan,
    "vace": tiny_vace,
    "cogvideox": tiny_cogvideox,
    "ltx": tiny_ltx,
    "hunyuan_video": tiny_hunyuan_video,
    "mochi": tiny_mochi,
}


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]().eval()
