"""The stages of a training run, in order."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from rich.console import Console

from jobs.benchmarks.demo_model.architecture import make_tokenizer
from jobs.benchmarks.demo_model.build import build_pipeline, save_pipeline
from jobs.benchmarks.demo_model.train.config import TrainConfig
from jobs.benchmarks.demo_model.train.dit import train_dit
from jobs.benchmarks.demo_model.train.latents import Latents, encode_training_clips
from jobs.benchmarks.demo_model.train.vae import train_vae
from jobs.benchmarks.demo_model.vae_ops import use_lean_norms


def prepare_latents(
    config: TrainConfig, folder: Path, console: Console
) -> tuple[AutoencoderKLWan, Latents]:
    """Trains or loads the autoencoder and encodes the training clips with it.

    Args:
        config: Hyperparameters; the same as before when resuming.
        folder: Folder of the run.
        console: Where progress is shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config.autoencoder is None:
        vae = train_vae(config, folder / "vae.pt", console)
    else:
        vae = AutoencoderKLWan.from_pretrained(
            config.autoencoder, subfolder="vae", torch_dtype=torch.float32, use_safetensors=True
        )
        use_lean_norms(vae)
    latents = encode_training_clips(
        vae,
        config.latent_clips,
        folder / "latents",
        console,
        config.vae.mixed_precision,
        config.world,
    )
    return vae, latents


def train(config: TrainConfig, folder: Path, console: Console) -> Path:
    """Trains every part, resuming from what the folder holds, and saves the pipeline.

    Args:
        config: Hyperparameters; the same as before when resuming.
        folder: Folder of the run, for checkpoints and the result.
        console: Where progress is shown.

    Returns:
        The folder of the saved ``WanPipeline``.
    """
    vae, latents = prepare_latents(config, folder, console)
    text_encoder, transformer = train_dit(config, latents, folder / "dit.pt", console)
    result = folder / "pipeline"
    pipeline = build_pipeline(
        make_tokenizer(config.world.words),
        text_encoder,
        transformer,
        vae,
        latents.channel_mean,
        latents.channel_std,
    )
    save_pipeline(pipeline, result)
    config.world.describe(result)
    console.log(f"saved {result}")
    return result
