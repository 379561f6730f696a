"""Tiny pipelines of HunyuanVideo, its version 1.5, FramePack and Motif-Video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffusers
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from tests.sencache.support import tiny_models as tiny
from tests.sencache.support.other_networks import make_hunyuan_15
from tests.sencache.support.tiny_pipelines import NEGATIVE, mask, prompts
from tests.sencache.support.toys import euler
from tests.sencache.support.video.base import (
    VideoPipeline,
    always,
    both,
    image_per_row,
    picture,
    texts,
)

NO_ENCODERS = {
    "text_encoder": None,
    "tokenizer": None,
    "text_encoder_2": None,
    "tokenizer_2": None,
}


def pooled(seeds: Sequence[int]) -> dict[str, Any]:
    """Prompts of HunyuanVideo with their masks and pooled embeddings."""
    negative = [NEGATIVE] * len(seeds)
    return texts(masked=True)(seeds) | {
        "pooled_prompt_embeds": prompts(seeds)[:, 0, : tiny.POOLED],
        "negative_pooled_prompt_embeds": prompts(negative)[:, 0, : tiny.POOLED],
    }


def doubled(seeds: Sequence[int]) -> dict[str, Any]:
    """Prompts of the two text encoders of HunyuanVideo 1.5."""
    given: dict[str, Any] = {}
    for prefix, rows in (("", seeds), ("negative_", [NEGATIVE] * len(seeds))):
        for suffix in ("", "_2"):
            given[f"{prefix}prompt_embeds{suffix}"] = prompts(rows)
            given[f"{prefix}prompt_embeds_mask{suffix}"] = mask(rows)
    return given


def siglip() -> dict[str, Any]:
    config = SiglipVisionConfig(
        hidden_size=tiny.DIM,
        intermediate_size=tiny.DIM,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return {
        "image_encoder": tiny.lively(SiglipVisionModel(config)),
        "feature_extractor": SiglipImageProcessor(size={"height": 32, "width": 32}),
    }


def hunyuan_vae() -> Any:
    return diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=tiny.CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


def make_hunyuan_15_image() -> Any:
    text = make_hunyuan_15()
    text.transformer.register_to_config(task_type="i2v")
    parts = {
        name: part
        for name, part in text.components.items()
        if name not in ("image_encoder", "feature_extractor")
    }
    return tiny.quiet(diffusers.HunyuanVideo15ImageToVideoPipeline(**parts, **siglip()))


def make_hunyuan_skyreels() -> Any:
    network = tiny.hunyuan(in_channels=2 * tiny.CHANNELS)
    pipe = diffusers.HunyuanSkyreelsImageToVideoPipeline(
        **NO_ENCODERS, transformer=network, vae=hunyuan_vae(), scheduler=euler()
    )
    return tiny.quiet(pipe)


def make_framepack() -> Any:
    network = diffusers.HunyuanVideoFramepackTransformer3DModel(
        in_channels=tiny.CHANNELS,
        out_channels=tiny.CHANNELS,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=tiny.DIM,
        pooled_projection_dim=tiny.POOLED,
        rope_axes_dim=(2, 4, 4),
        has_image_proj=True,
        image_proj_dim=tiny.DIM,
        has_clean_x_embedder=True,
    )
    pipe = diffusers.HunyuanVideoFramepackPipeline(
        **NO_ENCODERS,
        **siglip(),
        transformer=tiny.lively(network),
        vae=hunyuan_vae(),
        scheduler=euler(),
    )
    return tiny.quiet(pipe)


def motif_network(**options: Any) -> Any:
    return tiny.lively(
        diffusers.MotifVideoTransformer3DModel(
            in_channels=2 * tiny.CHANNELS + 1,
            out_channels=tiny.CHANNELS,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=1,
            num_single_layers=1,
            text_embed_dim=tiny.DIM,
            rope_axes_dim=(4, 6, 6),
            **options,
        )
    )


def make_motif(kind: type) -> Any:
    more = {} if kind is diffusers.MotifVideoPipeline else {"feature_extractor": None}
    pipe = kind(
        scheduler=euler(),
        vae=tiny.wan_vae(),
        text_encoder=None,
        tokenizer=None,
        transformer=motif_network(),
        guider=diffusers.ClassifierFreeGuidance(5.0),
        **more,
    )
    return tiny.quiet(pipe)


HUNYUAN_LIKE = {
    "HunyuanVideoPipeline": VideoPipeline(tiny.make_hunyuan, pooled, "true_cfg_scale"),
    "HunyuanVideoImageToVideoPipeline": VideoPipeline(
        lambda: tiny.make_hunyuan_image("latent_concat"),
        both(pooled, image_per_row()),
        "true_cfg_scale",
    ),
    "HunyuanVideoImageToVideoPipeline (first frame kept)": VideoPipeline(
        lambda: tiny.make_hunyuan_image("token_replace"),
        both(pooled, image_per_row()),
        "true_cfg_scale",
    ),
    "HunyuanSkyreelsImageToVideoPipeline": VideoPipeline(
        make_hunyuan_skyreels, both(pooled, image_per_row()), "true_cfg_scale"
    ),
    "HunyuanVideo15Pipeline": VideoPipeline(make_hunyuan_15, doubled, "guider"),
    "HunyuanVideo15ImageToVideoPipeline": VideoPipeline(
        make_hunyuan_15_image,
        both(doubled, always(image=picture())),
        "guider",
        size={"num_frames": 5},
        most_rows=1,
    ),
    "HunyuanVideoFramepackPipeline": VideoPipeline(
        make_framepack,
        both(pooled, image_per_row()),
        "true_cfg_scale",
        size={"height": tiny.SIZE, "width": tiny.SIZE, "num_frames": 9},
        options={"latent_window_size": 2},
        most_rows=1,
        chunks=2,
    ),
    "MotifVideoPipeline": VideoPipeline(
        lambda: make_motif(diffusers.MotifVideoPipeline), texts(masked=True), "guider"
    ),
    "MotifVideoImage2VideoPipeline": VideoPipeline(
        lambda: make_motif(diffusers.MotifVideoImage2VideoPipeline),
        both(texts(masked=True), always(prompt=None, image=picture())),
        "guider",
        most_rows=1,  # it takes one image
    ),
}
