"""Assembly of the trained parts into a diffusers ``WanPipeline``."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from pipeline.models.demo import FLOW_SHIFT


def build_pipeline(
    tokenizer: PreTrainedTokenizerFast,
    text_encoder: UMT5EncoderModel,
    transformer: WanTransformer3DModel,
    vae: AutoencoderKLWan,
    channel_mean: Tensor,
    channel_std: Tensor,
) -> WanPipeline:
    """Assembles a pipeline.

    Args:
        tokenizer: The tokenizer.
        text_encoder: The trained text encoder.
        transformer: The trained denoiser.
        vae: The trained autoencoder; copied.
        channel_mean: Mean of each latent channel, ``(z_dim,)``.
        channel_std: Standard deviation of each latent channel, ``(z_dim,)``.
    """
    config = {
        **vae.config,
        "latents_mean": channel_mean.tolist(),
        "latents_std": channel_std.tolist(),
    }
    normalised = AutoencoderKLWan.from_config(config)
    normalised.load_state_dict(vae.state_dict())
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        transformer=transformer,
        vae=normalised,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT),
    )


def save_pipeline(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Saves a pipeline as half-precision safetensors.

    Args:
        pipeline: The pipeline; it is converted to half precision in place.
        folder: Where to save it.
    """
    pipeline.to(torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)


def load_pipeline(folder: Path) -> WanPipeline:
    """Loads a saved pipeline for the CPU, in single precision and without a progress bar.

    Raises:
        OSError: The folder holds no pipeline.
    """
    pipeline = WanPipeline.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
