"""Tiny random pipelines of video classes beside those whose outputs can be reused."""

from __future__ import annotations

from typing import Any

import diffusers

from tests.sencache.support.tiny_models import (
    CHANNELS,
    DIM,
    SIZE,
    lively,
    quiet,
    wan_vae,
)
from tests.sencache.support.toys import euler


def make_latte() -> Any:
    network = diffusers.LatteTransformer3DModel(
        sample_size=SIZE // 8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=DIM,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        video_length=2,
    )
    return quiet(
        diffusers.LattePipeline(
            tokenizer=None,
            text_encoder=None,
            vae=diffusers.AutoencoderKL(),
            transformer=lively(network),
            scheduler=diffusers.DDIMScheduler(),
        )
    )


def make_sana() -> Any:
    network = diffusers.SanaVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=DIM,
        sample_size=8,
        rope_max_seq_len=32,
    )
    return quiet(
        diffusers.SanaVideoPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=wan_vae(),
            transformer=lively(network),
            scheduler=euler(),
        )
    )


def make_allegro() -> Any:
    network = diffusers.AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=1,
        cross_attention_dim=24,
        sample_width=8,
        sample_height=8,
        sample_frames=8,
        caption_channels=DIM,
    )
    vae = diffusers.AutoencoderKLAllegro(
        down_block_types=("AllegroDownBlock3D",) * 2,
        up_block_types=("AllegroUpBlock3D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        temporal_downsample_blocks=(True, True),
        temporal_upsample_blocks=(True, True),
    )
    return quiet(
        diffusers.AllegroPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=vae.eval(),
            transformer=lively(network),
            scheduler=diffusers.DDIMScheduler(),
        )
    )


def make_easyanimate() -> Any:
    network = diffusers.EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        patch_size=2,
        time_embed_dim=8,
        num_layers=1,
        mmdit_layers=0,
        text_embed_dim=DIM,
    )
    vae = diffusers.AutoencoderKLMagvit(
        latent_channels=CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=2,
        layers_per_block=1,
    )
    return quiet(
        diffusers.EasyAnimatePipeline(
            vae=vae.eval(),
            text_encoder=None,
            tokenizer=None,
            transformer=lively(network),
            scheduler=euler(),
        )
    )


def make_hunyuan_15() -> Any:
    network = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=2 * CHANNELS + 1,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_refiner_layers=1,
        text_embed_dim=DIM,
        text_embed_2_dim=DIM,
        image_embed_dim=DIM,
        rope_axes_dim=(4, 6, 6),
        target_size=16,
        task_type="t2v",
    )
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=CHANNELS, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1
    )
    return quiet(
        diffusers.HunyuanVideo15Pipeline(
            text_encoder=None,
            tokenizer=None,
            transformer=lively(network),
            vae=vae.eval(),
            scheduler=euler(),
            text_encoder_2=None,
            tokenizer_2=None,
            guider=diffusers.ClassifierFreeGuidance(5.0),
        )
    )


def make_kandinsky() -> Any:
    network = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=CHANNELS,
        in_text_dim=DIM,
        in_text_dim2=DIM,
        time_dim=16,
        out_visual_dim=CHANNELS,
        model_dim=24,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 4, 4),
    )
    vae = diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    )
    return quiet(
        diffusers.Kandinsky5T2VPipeline(
            transformer=lively(network),
            vae=vae.eval(),
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
            scheduler=euler(),
        )
    )


def make_ltx_2() -> Any:
    """Video and audio: two outputs, and up to three calls a step."""
    connector = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}
    connectors = diffusers.pipelines.ltx2.LTX2TextConnectors(
        caption_channels=DIM,
        text_proj_in_factor=1,
        **{f"video_connector_{name}": value for name, value in connector.items()},
        **{f"audio_connector_{name}": value for name, value in connector.items()},
        video_connector_num_learnable_registers=None,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_double_precision=False,
        rope_type="split",
    )
    network = diffusers.LTX2VideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        caption_channels=DIM,
        rope_double_precision=False,
        rope_type="split",
    )
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=CHANNELS,
        block_out_channels=(8,),
        down_block_types=("LTX2VideoDownBlock3D",),
        decoder_block_out_channels=(8,),
        layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_type=("spatiotemporal",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        patch_size=1,
    )
    audio_vae = diffusers.AutoencoderKLLTX2Audio(
        base_channels=4,
        output_channels=2,
        ch_mult=(1,),
        num_res_blocks=1,
        in_channels=2,
        resolution=32,
        latent_channels=2,
        mel_bins=8,
    )
    return quiet(
        diffusers.LTX2Pipeline(
            scheduler=euler(),
            vae=vae.eval(),
            audio_vae=audio_vae.eval(),
            text_encoder=None,
            tokenizer=None,
            connectors=lively(connectors),
            transformer=lively(network),
            vocoder=None,
        )
    )


def make_unet() -> Any:
    network = diffusers.UNet3DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=DIM,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    vae = diffusers.AutoencoderKL(  # whose latents are small: each step goes through all of them
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=2,
    )
    return quiet(
        diffusers.TextToVideoSDPipeline(
            vae=vae.eval(),
            text_encoder=None,
            tokenizer=None,
            unet=lively(network),
            scheduler=diffusers.DDIMScheduler(),
        )
    )
