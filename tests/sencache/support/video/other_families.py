"""Tiny pipelines of the families with calls of their own kind: without contexts, or in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffusers
import torch

from tests.sencache.support import other_networks as others
from tests.sencache.support import tiny_models as tiny
from tests.sencache.support.late_runs import make_cogvideox_video
from tests.sencache.support.tiny_pipelines import NEGATIVE, pictures, prompts
from tests.sencache.support.toys import euler, unipc
from tests.sencache.support.video.base import (
    VideoPipeline,
    always,
    both,
    image_per_row,
    picture,
    texts,
    video_per_row,
)

MASKED = texts(masked=True)
BY_EMBEDDING = always(negative_prompt=None)  # its default is a text
SQUARE = {"height": tiny.SIZE, "width": tiny.SIZE}


def kandinsky_texts(seeds: Sequence[int]) -> dict[str, Any]:
    rows = len(seeds)
    lengths = torch.arange(rows + 1, dtype=torch.int32) * tiny.TOKENS
    given: dict[str, Any] = {}
    for prefix, of in (("", seeds), ("negative_", [NEGATIVE] * rows)):
        given[f"{prefix}prompt_embeds_qwen"] = prompts(of)
        given[f"{prefix}prompt_embeds_clip"] = prompts(of)[:, 0]
        given[f"{prefix}prompt_cu_seqlens"] = lengths
    return given


def make_kandinsky_image() -> Any:
    parts = others.make_kandinsky().components
    network = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=tiny.CHANNELS,
        in_text_dim=tiny.DIM,
        in_text_dim2=tiny.DIM,
        time_dim=16,
        out_visual_dim=tiny.CHANNELS,
        model_dim=24,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 4, 4),
        visual_cond=True,
    )
    pipe = diffusers.Kandinsky5I2VPipeline(**(parts | {"transformer": tiny.lively(network)}))
    return tiny.quiet(pipe)


def make_kandinsky_6() -> Any:
    network = diffusers.Kandinsky6Transformer3DModel(
        in_visual_dim=tiny.CHANNELS,
        out_visual_dim=tiny.CHANNELS,
        in_text_dim=tiny.DIM,
        in_text_dim2=tiny.DIM,
        time_dim=16,
        model_dim=24,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 4, 4),
        in_audio_dim=4,
        out_audio_dim=4,
        model_dim_a=24,
        time_dim_a=16,
        ff_dim_a=32,
        axes_dims_a=(4, 4, 4),
    )
    pipe = diffusers.Kandinsky6TI2VAPipeline(
        transformer=tiny.lively(network),
        vae=others.make_kandinsky().vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        scheduler=euler(),
    )
    return tiny.quiet(pipe)


def make_kandinsky_6_with_sound() -> Any:
    """Latents of sound are sampled too; nothing decodes them in these tests."""
    pipe = make_kandinsky_6()
    vars(pipe).update(audio_vae=object(), vocoder=object())
    return pipe


def kandinsky_6_texts(seeds: Sequence[int]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for prefix, of in (("", seeds), ("negative_", [NEGATIVE] * len(seeds))):
        given[f"{prefix}prompt_embeds"] = prompts(of)
        given[f"{prefix}pooled_prompt_embeds"] = prompts(of)[:, 0]
    return given


class Harmless:
    """Stands in for the guardrail of Cosmos, which finds nothing."""

    def to(self, _device: Any) -> None:
        """Nothing to move."""


def cosmos_network(**options: Any) -> Any:
    config = {
        "in_channels": tiny.CHANNELS,
        "out_channels": tiny.CHANNELS,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 1,
        "text_embed_dim": tiny.DIM,
        "adaln_lora_dim": 4,
        "max_size": (4, 32, 32),
        "extra_pos_embed_type": None,
    }
    return tiny.lively(diffusers.CosmosTransformer3DModel(**(config | options)))


def make_cosmos(kind: type, scheduler: Any, **options: Any) -> Any:
    first = isinstance(scheduler, diffusers.EDMEulerScheduler)
    parts = {
        "text_encoder": None,
        "tokenizer": None,
        "transformer": cosmos_network(**options),
        "vae": cosmos_vae() if first else tiny.wan_vae(),
        "scheduler": scheduler,
    }
    pipe = kind(**parts, safety_checker=Harmless())
    return tiny.quiet(pipe)


def cosmos_vae() -> Any:
    torch.manual_seed(1)
    return diffusers.AutoencoderKLCosmos(
        latent_channels=tiny.CHANNELS,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
        patch_size=4,
        latents_mean=[0.0] * tiny.CHANNELS * 8,
        latents_std=[1.0] * tiny.CHANNELS * 8,
    ).eval()


def edm() -> Any:
    return diffusers.EDMEulerScheduler(
        sigma_min=0.002,
        sigma_max=80.0,
        sigma_data=1.0,
        sigma_schedule="karras",
        final_sigmas_type="sigma_min",
    )


def scaled_flow() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)


FRAME = {"in_channels": tiny.CHANNELS + 1}  # a channel says which frames are given


def make_sana_image() -> Any:
    parts = others.make_sana().components
    return tiny.quiet(diffusers.SanaImageToVideoPipeline(**parts))


def make_easyanimate(kind: type, channels: int) -> Any:
    parts = others.make_easyanimate().components
    network = diffusers.EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=channels,
        out_channels=tiny.CHANNELS,
        patch_size=2,
        time_embed_dim=8,
        num_layers=1,
        mmdit_layers=0,
        text_embed_dim=tiny.DIM,
    )
    return tiny.quiet(kind(**(parts | {"transformer": tiny.lively(network)})))


def make_anyflow() -> Any:
    network = diffusers.AnyFlowTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=tiny.CHANNELS,
        out_channels=tiny.CHANNELS,
        text_dim=tiny.DIM,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
        rope_max_seq_len=32,
    )
    pipe = diffusers.AnyFlowPipeline(
        tokenizer=None,
        text_encoder=None,
        transformer=tiny.lively(network),
        vae=tiny.wan_vae(),
        scheduler=diffusers.FlowMapEulerDiscreteScheduler(shift=3.0),
    )
    return tiny.quiet(pipe)


def make_helios() -> Any:
    network = diffusers.HeliosTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=tiny.CHANNELS,
        out_channels=tiny.CHANNELS,
        text_dim=tiny.DIM,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
        rope_dim=(4, 4, 4),
    )
    pipe = diffusers.HeliosPipeline(
        tokenizer=None,
        text_encoder=None,
        transformer=tiny.lively(network),
        vae=tiny.wan_vae(),
        scheduler=diffusers.HeliosScheduler(stages=1, stage_range=[0, 1]),
    )
    return tiny.quiet(pipe)


def with_plain_ddim(pipe: Any) -> Any:
    """The published sampler of Allegro is random, and this one clips: neither allows plans."""
    pipe.scheduler = diffusers.DDIMScheduler(clip_sample=False)
    return pipe


def make_consisid() -> Any:
    config = tiny.COGVIDEOX | {"in_channels": 2 * tiny.CHANNELS, "attention_head_dim": 24}
    network = tiny.lively(
        diffusers.ConsisIDTransformer3DModel(
            **config,
            is_train_face=True,
            cross_attn_interval=1,
            cross_attn_dim_head=8,
            cross_attn_num_heads=2,
            LFE_id_dim=tiny.DIM,
            LFE_vit_dim=tiny.DIM,
            LFE_depth=5,
            LFE_dim_head=8,
            LFE_num_heads=2,
            LFE_num_id_token=2,
            LFE_num_querie=4,
            LFE_output_dim=32,
            LFE_ff_mult=1,
            LFE_num_scale=5,
        )
    )
    parts = make_cogvideox_video("CogVideoXDDIMScheduler").components
    return tiny.quiet(diffusers.ConsisIDPipeline(**(parts | {"transformer": network})))


def faces(seeds: Sequence[int]) -> dict[str, Any]:
    """What the encoders of a face give: one embedding, and tokens at five depths."""
    return {
        "id_cond": prompts(seeds)[:, 0],
        "id_vit_hidden": [prompts(seeds) * depth for depth in range(1, 6)],
    }


OTHER_FAMILIES = {
    "Kandinsky5T2VPipeline": VideoPipeline(others.make_kandinsky, kandinsky_texts),
    "Kandinsky5I2VPipeline": VideoPipeline(
        make_kandinsky_image,
        both(kandinsky_texts, image_per_row()),
        size=SQUARE | {"num_frames": 21},
        most_rows=1,  # its last step normalises all rows together
    ),
    "Kandinsky6TI2VAPipeline": VideoPipeline(make_kandinsky_6_with_sound, kandinsky_6_texts),
    "Kandinsky6TI2VAPipeline (silent)": VideoPipeline(
        make_kandinsky_6, kandinsky_6_texts, options={"sample_audio": False}
    ),
    "CosmosTextToWorldPipeline": VideoPipeline(
        lambda: make_cosmos(diffusers.CosmosTextToWorldPipeline, edm()), texts()
    ),
    "CosmosVideoToWorldPipeline": VideoPipeline(
        lambda: make_cosmos(diffusers.CosmosVideoToWorldPipeline, edm(), **FRAME),
        both(texts(), image_per_row()),
        size=SQUARE | {"num_frames": 17},
    ),
    "Cosmos2VideoToWorldPipeline": VideoPipeline(
        lambda: make_cosmos(diffusers.Cosmos2VideoToWorldPipeline, scaled_flow(), **FRAME),
        both(texts(), image_per_row()),
    ),
    "Cosmos2_5_PredictBasePipeline": VideoPipeline(
        lambda: make_cosmos(diffusers.Cosmos2_5_PredictBasePipeline, unipc(), **FRAME), texts()
    ),
    "Cosmos2_5_PredictBasePipeline (image)": VideoPipeline(
        lambda: make_cosmos(diffusers.Cosmos2_5_PredictBasePipeline, unipc(), **FRAME),
        both(texts(), always(image=picture())),
        size=SQUARE | {"num_frames": 9},
        options={"num_latent_conditional_frames": 1},
        most_rows=1,  # it takes one image
    ),
    "SanaVideoPipeline": VideoPipeline(
        others.make_sana,
        both(MASKED, BY_EMBEDDING, always(use_resolution_binning=False)),
        size=SQUARE | {"frames": 5},
    ),
    "SanaImageToVideoPipeline": VideoPipeline(
        make_sana_image,
        both(
            MASKED,
            BY_EMBEDDING,
            always(use_resolution_binning=False, image=pictures([7])),
        ),
        size=SQUARE | {"frames": 5},
    ),
    "AllegroPipeline": VideoPipeline(
        lambda: with_plain_ddim(others.make_allegro()), both(MASKED, BY_EMBEDDING)
    ),
    "EasyAnimatePipeline": VideoPipeline(others.make_easyanimate, MASKED),
    "EasyAnimateInpaintPipeline": VideoPipeline(
        lambda: make_easyanimate(diffusers.EasyAnimateInpaintPipeline, 2 * tiny.CHANNELS + 1),
        both(
            MASKED,
            lambda seeds: {"video": video_per_row()(seeds)["video"].transpose(1, 2)},
            lambda seeds: {"mask_video": torch.full((len(seeds), 1, 5, *(2 * [tiny.SIZE])), 255.0)},
        ),
        most_rows=1,  # it takes one generator
    ),
    "LattePipeline": VideoPipeline(
        lambda: with_plain_ddim(others.make_latte()),
        both(texts(), BY_EMBEDDING),
        size=SQUARE | {"video_length": 2},
        options={"mask_feature": False},
    ),
    "AnyFlowPipeline": VideoPipeline(make_anyflow, texts()),
    "HeliosPipeline": VideoPipeline(
        make_helios,
        texts(),
        size=SQUARE | {"num_frames": 9},
        options={"num_latent_frames_per_chunk": 2},
        chunks=2,
    ),
}

if "consisid" in diffusers.ConsisIDPipeline.__module__:  # else OpenCV is missing
    OTHER_FAMILIES["ConsisIDPipeline"] = VideoPipeline(
        make_consisid,
        both(texts(), image_per_row(), faces),
        size=SQUARE | {"num_frames": 9},
        most_rows=1,  # it takes one face
    )
