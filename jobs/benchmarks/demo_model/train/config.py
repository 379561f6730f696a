"""Hyperparameters of the training stages."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs.benchmarks.demo_model.palette import MUTED
from jobs.benchmarks.demo_model.worlds import ClipWorld, PictureWorld, SpriteWorld
from pipeline.models.demo import WEIGHTS_DIR


@dataclass(frozen=True)
class LoopConfig:
    """Hyperparameters of one optimisation loop.

    Attributes:
        steps: Optimiser steps.
        batch: Clips per step.
        learning_rate: Peak learning rate; it warms up linearly and decays along a cosine.
        warmup: Steps of the warm-up.
        betas: AdamW momenta.
        weight_decay: AdamW weight decay of matrices; vectors are not decayed.
        ema_decay: Decay of the exponential moving average of the weights.
        save_every: Steps between checkpoints.
        seed: Base seed; each step has a generator of its own.
        mixed_precision: Whether to run under bfloat16 autocast.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    save_every: int = 200
    seed: int = 0
    mixed_precision: bool = True


@dataclass(frozen=True)
class TrainConfig:
    """All stages of a training run.

    Attributes:
        vae: Loop of the autoencoder on whole clips; its first ``crop_steps`` steps see crops.
        crop_steps: Autoencoder steps on small crops of short clips.
        crop_batch: Crops per step.
        crop_size: Height and width of a crop in pixels.
        crop_frames: Frames of a crop, 1 + 4k.
        kl_weight: Weight of the KL term, a mean over latent elements.
        pool_clips: Clips rendered once and reused by the autoencoder's loop.
        latent_clips: Clips encoded once for the denoiser.
        dit: Loop of the denoiser and the text encoder.
        caption_dropout: Share of captions replaced by the empty one, for guidance.
        vae_changes: Replacements in the autoencoder's configuration.
        transformer_changes: Replacements in the denoiser's configuration.
        text_changes: Replacements in the text encoder's configuration.
        world: What the clips show.
        autoencoder: Folder of a saved pipeline whose autoencoder is used, instead of training one.
        vae_start: Folder of a saved pipeline whose autoencoder is trained further, instead of one
            with fresh weights.
        text_encoder: Folder of a saved pipeline whose text encoder is trained further, instead of
            one with fresh weights. Models of another shape have one.
    """

    vae: LoopConfig
    dit: LoopConfig
    crop_steps: int
    crop_batch: int = 16
    crop_size: int = 32
    crop_frames: int = 5
    kl_weight: float = 2e-4
    pool_clips: int = 2048
    latent_clips: int = 12288
    caption_dropout: float = 0.1
    vae_changes: dict[str, Any] = field(default_factory=dict)
    transformer_changes: dict[str, Any] = field(default_factory=dict)
    text_changes: dict[str, Any] = field(default_factory=dict)
    world: ClipWorld = field(default_factory=SpriteWorld)
    autoencoder: Path | None = None
    vae_start: Path | None = None
    text_encoder: Path | None = None


def default_config() -> TrainConfig:
    """Returns the configuration the shipped weights were trained with."""
    return TrainConfig(
        vae=LoopConfig(steps=5200, batch=3, learning_rate=1.5e-3, seed=1),
        crop_steps=2600,
        dit=LoopConfig(
            steps=6000,
            batch=32,
            learning_rate=1e-3,
            warmup=200,
            betas=(0.9, 0.98),
            ema_decay=0.9985,
            save_every=250,
            seed=2,
        ),
    )


def second_config() -> TrainConfig:
    """Returns the configuration of a second model, to check results of the first on.

    Its denoiser and text encoder have another palette and seed and fewer layers; its autoencoder is
    the shipped one.
    """
    first = default_config()
    return replace(
        first,
        # Single precision: mixed precision is far slower on processors without bfloat16.
        vae=replace(first.vae, mixed_precision=False),
        dit=replace(first.dit, steps=2000, seed=1002, mixed_precision=False),
        latent_clips=8192,
        transformer_changes={"num_layers": 4},
        world=SpriteWorld(MUTED),
        autoencoder=WEIGHTS_DIR,
    )


def shape_config() -> TrainConfig:
    """Returns the configuration of a model of another shape, to check results on.

    It has the palette and autoencoder of the second model, and the same training clips; its text
    encoder begins as the shipped one, as models of different makers share one T5.
    """
    second = second_config()
    return replace(
        second,
        dit=replace(second.dit, batch=32, warmup=50, save_every=50, seed=3003),
        transformer_changes={},
        text_encoder=WEIGHTS_DIR,
    )


def pictures_config() -> TrainConfig:
    """Returns the configuration of a model of richer pictures, to check results on.

    Photographs need an autoencoder of their own, which begins as the shipped one. The steps are
    few: they fit into an hour on two quiet cores.
    """
    first = default_config()
    vae = replace(first.vae, steps=2000, batch=2, seed=4001, mixed_precision=False)
    return replace(
        first,
        vae=replace(vae, learning_rate=6e-4),
        crop_steps=1400,
        vae_start=WEIGHTS_DIR,
        crop_size=48,
        pool_clips=512,
        latent_clips=6144,
        dit=replace(first.dit, steps=2000, batch=16, seed=4002, mixed_precision=False),
        world=PictureWorld(),
    )


def shortened(config: TrainConfig, factor: int) -> TrainConfig:
    """Returns a configuration with fewer steps and training clips, for a lesser model.

    Args:
        config: What to shorten.
        factor: What numbers of steps, of their warm-ups and of encoded clips are divided by.
    """

    def shorter(loop: LoopConfig) -> LoopConfig:
        return replace(loop, steps=loop.steps // factor, warmup=max(1, loop.warmup // factor))

    return replace(
        config,
        vae=shorter(config.vae),
        crop_steps=config.crop_steps // factor,
        dit=shorter(config.dit),
        latent_clips=config.latent_clips // factor,
    )
