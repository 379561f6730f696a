"""The tiny pipelines of every video class with all their parts, as saved ones have them."""

from __future__ import annotations

from typing import Any

import diffusers

from tests.model_builders import mochi
from tests.sencache.support import tiny_models as tiny
from tests.sencache.support.late_runs import make_cogvideox_video
from tests.sencache.support.video.hunyuan_like import hunyuan_vae, motif_network
from tests.sencache.support.video.table import SUPPORTED, class_of
from tests.tiny_encoders import encoders


def whole(name: str) -> Any:
    """Make the pipeline of a variant and give it what it lacks to make clips from texts.

    Args:
        name: A key of `SUPPORTED`.
    """
    if name == "MochiPipeline":
        return mochi()  # its own tiny one has no decoder that fits
    pipe = SUPPORTED[name].make()
    kind = getattr(diffusers, class_of(name))
    given = dict(pipe.components)
    for part, made in {**encoders(name), **decoders(name)}.items():
        if part in given and (given[part] is None or type(given[part]) is object):
            given[part] = made
    if name == "MotifVideoImage2VideoPipeline":  # its own tiny one sees no image
        given["transformer"] = motif_network(image_embed_dim=tiny.DIM)
    if name == "EasyAnimateInpaintPipeline":  # as the published one has it
        given["vae"].register_to_config(cache_mag_vae=True)
    return tiny.quiet(kind(**given, **options(pipe)))


def options(pipe: Any) -> dict[str, Any]:
    """What a pipeline was made with apart from its parts."""
    names = ("boundary_ratio", "expand_timesteps")
    return {name: pipe.config[name] for name in names if name in pipe.config}


def decoders(name: str) -> dict[str, Any]:
    """What turns the latents of a variant into frames and sound, where its maker leaves it out."""
    if name.startswith("Wan"):
        return {"vae": tiny.wan_vae()}
    if name.startswith("CogVideoX"):
        return {"vae": make_cogvideox_video("CogVideoXDDIMScheduler").vae}
    if name.startswith("Hunyuan"):
        return {"vae": hunyuan_vae()}
    if name.startswith("LTX2"):
        return {"vocoder": ltx_2_vocoder()}
    if name == "Kandinsky6TI2VAPipeline":
        return kandinsky_6_sound()
    if name.startswith("Motif"):
        return {"vae": tiny.wan_vae()}
    return {}


def ltx_2_vocoder() -> Any:
    return tiny.lively(
        diffusers.pipelines.ltx2.LTX2Vocoder(
            in_channels=16,
            hidden_channels=8,
            upsample_kernel_sizes=[4, 4],
            upsample_factors=[2, 2],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3, 5]],
            output_sampling_rate=400,
        )
    )


def kandinsky_6_sound() -> dict[str, Any]:
    audio_vae = diffusers.MMAudioVAE(
        mel_bins=8,
        latent_channels=4,
        hidden_channels=32,
        channel_multipliers=(1, 2),
        layers_per_block=1,
        sample_rate=1600,
        n_fft=64,
        hop_length=4,
    )
    vocoder = diffusers.MMAudioVocoder(
        num_mels=8,
        upsample_initial_channel=8,
        upsample_rates=(2, 2),
        upsample_kernel_sizes=(4, 4),
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3, 5),),
    )
    return {"audio_vae": tiny.lively(audio_vae), "vocoder": tiny.lively(vocoder)}
