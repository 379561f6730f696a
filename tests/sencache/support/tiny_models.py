"""Makers of tiny random pipelines: diffusers' own classes, small and fast.

Networks, schedulers and, where an image or a video has to be encoded, autoencoders are the classes
of the published models. Prompts go in as embeddings, so no text encoder is needed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from tests.sencache.support.toys import unipc

CHANNELS, TOKENS, DIM, POOLED, SIZE = 4, 6, 16, 8, 32


def lively(network: torch.nn.Module, seed: int = 0) -> Any:
    """The network in eval mode with weights that let every input through.

    The layers' own initial values are too small, for some of them zero: the output would hardly
    depend on the text.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                fan_in = max(weight.shape[-1], weight[0].numel())
                weight.normal_(0.0, 1.2 / math.sqrt(fan_in), generator=generator)
            elif name.endswith("bias"):
                weight.normal_(0.0, 0.1, generator=generator)
    return network.eval().requires_grad_(False)


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def wan_vae() -> AutoencoderKLWan:
    torch.manual_seed(1)
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
    ).eval()


WAN = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "text_dim": DIM,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}


def wan(seed: int = 0, **options: Any) -> Any:
    return lively(WanTransformer3DModel(**(WAN | options)), seed)


def make_wan() -> Any:
    return quiet(
        WanPipeline(
            tokenizer=None, text_encoder=None, vae=None, scheduler=unipc(), transformer=wan()
        )
    )


def make_wan_experts() -> Any:
    return quiet(
        WanPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=None,
            scheduler=unipc(),
            transformer=wan(),
            transformer_2=wan(1),
            boundary_ratio=0.875,
        )
    )


IMAGE_TOKENS = 5


def make_wan_image(images: int) -> Any:
    """Wan 2.1 image to video; with two images the model of first and last frame."""
    config = CLIPVisionConfig(
        hidden_size=DIM,
        projection_dim=DIM,
        intermediate_size=DIM,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return quiet(
        WanImageToVideoPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=wan_vae(),
            scheduler=unipc(),
            image_encoder=lively(CLIPVisionModel(config)),
            image_processor=CLIPImageProcessor(
                size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_rescale=False
            ),
            transformer=wan(
                in_channels=2 * CHANNELS + 4,  # noise, image, and its mask of 4 frames a latent
                image_dim=DIM,
                added_kv_proj_dim=24,
                pos_embed_seq_len=2 * IMAGE_TOKENS if images == 2 else None,
            ),
        )
    )


def make_wan_image_22(experts: bool) -> Any:
    """Wan 2.2: no image embeddings; two experts, or one network with a timestep per token."""
    channels = 2 * CHANNELS + 4 if experts else CHANNELS
    return quiet(
        WanImageToVideoPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=wan_vae(),
            scheduler=unipc(),
            transformer=wan(in_channels=channels),
            transformer_2=wan(1, in_channels=channels) if experts else None,
            boundary_ratio=0.875 if experts else None,
            expand_timesteps=not experts,
        )
    )


class RowsVACEPipeline(WanVACEPipeline):
    """VACE with a control video per row; the network can do it, diffusers' pipeline cannot yet."""

    def prepare_video_latents(self, video: Any, mask: Any, images: Any, *_: Any) -> torch.Tensor:
        prepare, rows = super().prepare_video_latents, range(len(video))
        parts = [(video[i : i + 1], mask[i : i + 1], images[i : i + 1]) for i in rows]
        return torch.cat([prepare(*part) for part in parts])

    def prepare_masks(self, mask: Any, images: Any, *_: Any) -> torch.Tensor:
        prepare = super().prepare_masks
        return torch.cat([prepare(mask[i : i + 1], images[i : i + 1]) for i in range(len(mask))])


def make_wan_vace() -> Any:
    network = WanVACETransformer3DModel(
        **(WAN | {"num_layers": 3}),
        vace_layers=[0, 1],  # two scales, which are not those of two rows
        vace_in_channels=2 * CHANNELS + 8 * 8,
    )
    return quiet(
        RowsVACEPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=wan_vae(),
            scheduler=unipc(),
            transformer=lively(network),
        )
    )


COGVIDEOX = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "time_embed_dim": 8,
    "text_embed_dim": DIM,
    "num_layers": 2,
    "sample_width": SIZE // 8,
    "sample_height": SIZE // 8,
    "sample_frames": 9,
    "max_text_seq_length": TOKENS,
}
COGVIDEOX_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


def make_cogvideox() -> Any:
    return quiet(
        CogVideoXPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=None,
            transformer=lively(CogVideoXTransformer3DModel(**COGVIDEOX)),
            scheduler=CogVideoXDDIMScheduler(**COGVIDEOX_SCHEDULE, snr_shift_scale=3.0),
        )
    )


def make_cogvideox_image() -> Any:
    """Version 1.5: patches in time, and the offset embedding that all rows share."""
    torch.manual_seed(1)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    ).eval()
    options = {
        "in_channels": 2 * CHANNELS,
        "patch_size_t": 2,
        "ofs_embed_dim": 8,
        "use_rotary_positional_embeddings": True,
        "patch_bias": False,
    }
    return quiet(
        CogVideoXImageToVideoPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=vae,
            transformer=lively(CogVideoXTransformer3DModel(**(COGVIDEOX | options))),
            scheduler=CogVideoXDPMScheduler(**COGVIDEOX_SCHEDULE, snr_shift_scale=1.0),
        )
    )


def make_ltx(pipeline: type) -> Any:
    torch.manual_seed(1)
    vae = AutoencoderKLLTXVideo(
        latent_channels=CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1, 1, 1, 1),
        patch_size=2,
        patch_size_t=1,
    ).eval()
    network = LTXVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=2,
        caption_channels=DIM,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
    return quiet(
        pipeline(
            scheduler=scheduler,
            vae=vae,
            text_encoder=None,
            tokenizer=None,
            transformer=lively(network),
        )
    )


def hunyuan(**options: Any) -> Any:
    config = {
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "num_attention_heads": 2,
        "attention_head_dim": 10,
        "num_layers": 1,
        "num_single_layers": 1,
        "num_refiner_layers": 1,
        "text_embed_dim": DIM,
        "pooled_projection_dim": POOLED,
        "rope_axes_dim": (2, 4, 4),
    }
    return lively(HunyuanVideoTransformer3DModel(**(config | options)))


def make_hunyuan() -> Any:
    return quiet(
        HunyuanVideoPipeline(
            text_encoder=None,
            tokenizer=None,
            transformer=hunyuan(),
            vae=None,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
            text_encoder_2=None,
            tokenizer_2=None,
        )
    )


def make_hunyuan_image(kind: str) -> Any:
    torch.manual_seed(1)
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()
    channels = 2 * CHANNELS + 1 if kind == "latent_concat" else CHANNELS
    return quiet(
        HunyuanVideoImageToVideoPipeline(
            text_encoder=None,
            tokenizer=None,
            transformer=hunyuan(
                in_channels=channels,
                image_condition_type=kind,
                guidance_embeds=kind == "token_replace",
            ),
            vae=vae,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
            text_encoder_2=None,
            tokenizer_2=None,
            image_processor=None,
        )
    )


def make_mochi() -> Any:
    network = MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=12,
        text_embed_dim=DIM,
        time_embed_dim=16,
    )
    return quiet(
        MochiPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
            vae=None,
            text_encoder=None,
            tokenizer=None,
            transformer=lively(network),
        )
    )
