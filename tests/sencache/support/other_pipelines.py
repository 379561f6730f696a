"""Tiny random pipelines beside those whose outputs can be reused: they can only be counted.

Other families, calls without cache contexts or with contexts of other names, runs that begin late,
networks of several outputs, and U-Nets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch

from tests.sencache.support.tiny_models import (
    CHANNELS,
    COGVIDEOX,
    COGVIDEOX_SCHEDULE,
    DIM,
    SIZE,
    TOKENS,
    WAN,
    lively,
    make_ltx,
    quiet,
    wan,
    wan_vae,
)
from tests.sencache.support.tiny_pipelines import mask, pictures, prompts
from tests.sencache.support.toys import euler, unipc

STEPS = 5


@dataclass(frozen=True)
class OtherPipeline:
    """How to make a pipeline, and how to call it.

    Attributes:
        name: For test ids.
        make: Builds it.
        inputs: Arguments of its call, all but the generator and the guidance scale.
        evaluations: Rows that go through the network for a guided sample.
        unguided: The same without guidance; None if it always guides.
        steps: Steps that its network is called at.
    """

    name: str
    make: Callable[[], Any]
    inputs: Callable[[], dict[str, Any]]
    evaluations: int = 2 * STEPS
    unguided: int | None = STEPS
    steps: int = STEPS
    size: Mapping[str, Any] = field(
        default_factory=lambda: {"height": SIZE, "width": SIZE, "num_frames": 5}
    )

    def run(self, pipe: Any, guidance: bool = True) -> torch.Tensor:
        """Latents of one call of two rows."""
        given: dict[str, Any] = {
            "generator": [torch.Generator().manual_seed(seed) for seed in (0, 1)],
            "num_inference_steps": STEPS,
            "output_type": "latent",
        }
        if hasattr(pipe, "guider"):
            pipe.guider = diffusers.ClassifierFreeGuidance(
                guidance_scale=5.0 if guidance else 1.0, enabled=guidance
            )
        else:
            given["guidance_scale"] = 5.0 if guidance else 1.0
        result: torch.Tensor = pipe(**given, **self.size, **self.inputs(), return_dict=False)[0]
        return result


def texts(*, masked: bool = False) -> dict[str, Any]:
    """Prompts of two rows."""
    given: dict[str, Any] = {
        "prompt_embeds": prompts([0, 1]),
        "negative_prompt_embeds": prompts([99, 99]),
    }
    if masked:
        given |= {"prompt_attention_mask": mask([0, 1])}
        given |= {"negative_prompt_attention_mask": mask([2, 2])}
    return given


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


def two_texts() -> dict[str, Any]:
    """Prompts of the two text encoders of HunyuanVideo 1.5."""
    given: dict[str, Any] = {}
    for prefix, seeds in (("", [0, 1]), ("negative_", [99, 99])):
        for suffix in ("", "_2"):
            given[f"{prefix}prompt_embeds{suffix}"] = prompts(seeds)
            given[f"{prefix}prompt_embeds_mask{suffix}"] = mask(seeds)
    return given


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


def kandinsky_texts() -> dict[str, Any]:
    lengths = torch.tensor([0, TOKENS, 2 * TOKENS], dtype=torch.int32)
    given: dict[str, Any] = {}
    for prefix, seeds in (("", [0, 1]), ("negative_", [99, 99])):
        given[f"{prefix}prompt_embeds_qwen"] = prompts(seeds)
        given[f"{prefix}prompt_embeds_clip"] = prompts(seeds)[:, 0]
        given[f"{prefix}prompt_cu_seqlens"] = lengths
    return given


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
    return quiet(
        diffusers.TextToVideoSDPipeline(
            vae=diffusers.AutoencoderKL(),
            text_encoder=None,
            tokenizer=None,
            unet=lively(network),
            scheduler=diffusers.DDIMScheduler(),
        )
    )


LATE: dict[str, Any] = {"evaluations": 6, "unguided": 3, "steps": 3}
BY_EMBEDDING = {"negative_prompt": None}  # its default is a text
NO_FRAMES = {"height": SIZE, "width": SIZE}

OTHERS = [
    OtherPipeline(
        "wan-v2v",
        make_wan_video,
        lambda: texts() | {"video": video(), "strength": 0.6},
        size=NO_FRAMES,
        **LATE,
    ),
    OtherPipeline(
        "cogvideox-v2v-ddim",
        lambda: make_cogvideox_video("CogVideoXDDIMScheduler"),
        lambda: texts() | {"video": video(), "strength": 0.6},
        size=NO_FRAMES,
        **LATE,
    ),
    OtherPipeline(
        "cogvideox-v2v-dpm",
        lambda: make_cogvideox_video("CogVideoXDPMScheduler"),
        lambda: texts() | {"video": video(), "strength": 0.6},
        size=NO_FRAMES,
        **LATE,
    ),
    OtherPipeline(
        "ltx-condition",
        make_ltx_condition,
        lambda: texts(masked=True),
    ),
    OtherPipeline("skyreels", lambda: make_skyreels(diffusers.SkyReelsV2Pipeline), texts),
    OtherPipeline(
        "skyreels-forcing",
        lambda: make_skyreels(diffusers.SkyReelsV2DiffusionForcingPipeline),
        lambda: texts() | {"prompt": None},
    ),
    OtherPipeline(
        "latte",
        make_latte,
        lambda: texts() | BY_EMBEDDING,
        size={"height": SIZE, "width": SIZE, "video_length": 2},
    ),
    OtherPipeline(
        "sana",
        make_sana,
        lambda: texts(masked=True) | BY_EMBEDDING | {"use_resolution_binning": False},
        size=NO_FRAMES | {"frames": 5},
    ),
    OtherPipeline("allegro", make_allegro, lambda: texts(masked=True) | BY_EMBEDDING),
    OtherPipeline("easyanimate", make_easyanimate, lambda: texts(masked=True)),
    OtherPipeline("hunyuan-1.5", make_hunyuan_15, two_texts),
    OtherPipeline("kandinsky", make_kandinsky, kandinsky_texts),
    OtherPipeline(
        "ltx-2",
        make_ltx_2,
        lambda: (
            texts(masked=True)
            | {"spatio_temporal_guidance_blocks": [0], "audio_guidance_scale": None}
        ),
        evaluations=4 * STEPS,
        unguided=3 * STEPS,
    ),
    OtherPipeline("unet", make_unet, texts),
]
