"""Tiny pipelines of Wan and of the models derived from it."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from diffusers.video_processor import VideoProcessor
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from tests.sencache.support import tiny_models as tiny
from tests.sencache.support.late_runs import make_skyreels, make_wan_video
from tests.sencache.support.tiny_pipelines import pictures
from tests.sencache.support.toys import unipc
from tests.sencache.support.video.base import (
    VideoPipeline,
    always,
    both,
    texts,
    video_per_row,
)

IMAGE_CHANNELS = 2 * tiny.CHANNELS + 4  # noise, image, and its mask of 4 frames a latent


def image_encoder() -> dict[str, Any]:
    config = CLIPVisionConfig(
        hidden_size=tiny.DIM,
        projection_dim=tiny.DIM,
        intermediate_size=tiny.DIM,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return {
        "image_encoder": tiny.lively(CLIPVisionModel(config)),
        "image_processor": CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_rescale=False
        ),
    }


def parts(network: Any, **more: Any) -> dict[str, Any]:
    return {
        "tokenizer": None,
        "text_encoder": None,
        "vae": tiny.wan_vae(),
        "scheduler": unipc(),
        "transformer": network,
    } | more


def make_ti2v() -> Any:
    """Wan 2.2 5B from text: a timestep per token, all alike."""
    return tiny.quiet(diffusers.WanPipeline(**parts(tiny.wan()), expand_timesteps=True))


def make_lucy() -> Any:
    network = tiny.wan(in_channels=2 * tiny.CHANNELS)
    return tiny.quiet(diffusers.LucyEditPipeline(**parts(network)))


def make_chronoedit() -> Any:
    config = tiny.WAN | {"in_channels": IMAGE_CHANNELS, "image_dim": tiny.DIM}
    network = diffusers.ChronoEditTransformer3DModel(**config, added_kv_proj_dim=24)
    pipe = diffusers.ChronoEditPipeline(**parts(tiny.lively(network)), **image_encoder())
    return tiny.quiet(pipe)


def make_skyreels_image() -> Any:
    config = tiny.WAN | {"in_channels": IMAGE_CHANNELS, "image_dim": tiny.DIM}
    network = diffusers.SkyReelsV2Transformer3DModel(**config, added_kv_proj_dim=24)
    pipe = diffusers.SkyReelsV2ImageToVideoPipeline(
        **parts(tiny.lively(network)), **image_encoder()
    )
    return tiny.quiet(pipe)


def make_animate() -> Any:
    config = {name: value for name, value in tiny.WAN.items() if name != "in_channels"}
    network = diffusers.WanAnimateTransformer3DModel(
        **config,
        in_channels=IMAGE_CHANNELS,
        latent_channels=tiny.CHANNELS,
        image_dim=tiny.DIM,
        added_kv_proj_dim=24,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    pipe = diffusers.WanAnimatePipeline(**parts(tiny.lively(network)), **image_encoder())
    return tiny.quiet(pipe)


def animated(seeds: Any) -> dict[str, Any]:
    frames = torch.cat([pictures([seeds[0] + frame]) for frame in range(9)])
    video = VideoProcessor.numpy_to_pil(frames.permute(0, 2, 3, 1).numpy())
    return {"image": video[0], "pose_video": video, "face_video": video[::-1]}


NO_FRAMES = {"height": tiny.SIZE, "width": tiny.SIZE}
FIRST_IMAGE = always(image=pictures([7]))  # one image for all rows

WAN_LIKE = {
    "WanPipeline": VideoPipeline(tiny.make_wan, texts()),
    "WanPipeline (two experts)": VideoPipeline(tiny.make_wan_experts, texts()),
    "WanPipeline (time per token)": VideoPipeline(make_ti2v, texts()),
    "WanImageToVideoPipeline": VideoPipeline(
        lambda: tiny.make_wan_image(1), both(texts(), FIRST_IMAGE)
    ),
    "WanImageToVideoPipeline (last image)": VideoPipeline(
        lambda: tiny.make_wan_image(2),
        both(texts(), FIRST_IMAGE, always(last_image=pictures([8]))),
    ),
    "WanImageToVideoPipeline (two experts)": VideoPipeline(
        lambda: tiny.make_wan_image_22(experts=True), both(texts(), FIRST_IMAGE)
    ),
    "WanImageToVideoPipeline (time per token)": VideoPipeline(
        lambda: tiny.make_wan_image_22(experts=False), both(texts(), FIRST_IMAGE)
    ),
    "WanVACEPipeline": VideoPipeline(tiny.make_wan_vace, both(texts(), video_per_row())),
    "WanVideoToVideoPipeline": VideoPipeline(
        make_wan_video, both(texts(), video_per_row(), always(strength=0.7)), size=NO_FRAMES, late=2
    ),
    "LucyEditPipeline": VideoPipeline(make_lucy, both(texts(), video_per_row())),
    "ChronoEditPipeline": VideoPipeline(make_chronoedit, both(texts(), FIRST_IMAGE)),
    "SkyReelsV2Pipeline": VideoPipeline(
        lambda: make_skyreels(diffusers.SkyReelsV2Pipeline), texts()
    ),
    "SkyReelsV2ImageToVideoPipeline": VideoPipeline(
        make_skyreels_image, both(texts(), FIRST_IMAGE)
    ),
    "WanAnimatePipeline": VideoPipeline(
        make_animate,
        both(texts(), animated),
        size=NO_FRAMES | {"segment_frame_length": 5},
        most_rows=1,
        chunks=2,
    ),
}
