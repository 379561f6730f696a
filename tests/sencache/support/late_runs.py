"""Tiny pipelines of known families that begin late, or whose contexts have other names."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from tests.sencache.support.tiny_models import (
    CHANNELS,
    COGVIDEOX,
    COGVIDEOX_SCHEDULE,
    WAN,
    lively,
    make_ltx,
    quiet,
    wan,
    wan_vae,
)
from tests.sencache.support.tiny_pipelines import pictures
from tests.sencache.support.toys import euler, unipc


def video() -> torch.Tensor:
    return torch.stack([pictures([seed] * 5) for seed in (0, 1)])


def make_wan_video() -> Any:
    return quiet(
        diffusers.WanVideoToVideoPipeline(
            tokenizer=None, text_encoder=None, transformer=wan(), vae=wan_vae(), scheduler=unipc()
        )
    )


def make_cogvideox_video(scheduler: str) -> Any:
    torch.manual_seed(1)
    vae = diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    ).eval()
    return quiet(
        diffusers.CogVideoXVideoToVideoPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=vae,
            transformer=lively(diffusers.CogVideoXTransformer3DModel(**COGVIDEOX)),
            scheduler=getattr(diffusers, scheduler)(**COGVIDEOX_SCHEDULE),
        )
    )


def make_ltx_condition() -> Any:
    pipe = make_ltx(diffusers.LTXConditionPipeline)
    pipe.scheduler = euler()  # it does not shift by the size
    return pipe


def make_skyreels(kind: type) -> Any:
    network = lively(diffusers.SkyReelsV2Transformer3DModel(**WAN))
    return quiet(
        kind(
            tokenizer=None,
            text_encoder=None,
            transformer=network,
            vae=wan_vae(),
            scheduler=unipc(),
        )
    )
