"""Polishing of the decoder alone, on a frozen latent space."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from rich.console import Console
from torch import Tensor

from pipeline.models.demo.train.config import TrainConfig
from pipeline.models.demo.train.loop import optimise
from pipeline.models.demo.train.vae import make_pool, reconstruction_loss, to_float
from pipeline.models.demo.vae_ops import decode_clip, encode_clip

__all__ = ["polish_decoder"]


def polish_decoder(
    vae: AutoencoderKLWan,
    channel_std: Tensor,
    config: TrainConfig,
    checkpoint: Path,
    console: Console,
    stop_at: int | None = None,
) -> None:
    """Trains the decoder further while the encoder, and so the latent space, stays as it is.

    A little noise on the latents teaches the decoder to forgive the denoiser's small errors.

    Args:
        vae: The trained autoencoder; changed in place.
        channel_std: Spread of each latent channel, ``(z_dim,)``.
        config: Hyperparameters.
        checkpoint: Where the state is saved and resumed from.
        console: Where progress is shown.
        stop_at: Stop early after this many steps in all.

    Raises:
        StoppedEarlyError: The loop stopped at ``stop_at``.
    """
    mixed = config.decoder.mixed_precision
    spread = config.decoder_noise * channel_std.view(1, -1, 1, 1, 1)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        pool = make_pool(config.pool_clips)
        index = torch.randint(0, len(pool), (config.decoder.batch,), generator=generator)
        clip = to_float(pool[index])
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            with torch.no_grad():
                mean, _ = encode_clip(vae, clip)
                mean = mean.float()
            latents = mean + spread * torch.randn(mean.shape, generator=generator)
            output = decode_clip(vae, latents)
        return reconstruction_loss(output.float(), clip)

    parameters = [*vae.post_quant_conv.parameters(), *vae.decoder.parameters()]
    optimise("decoder", parameters, loss_of, config.decoder, checkpoint, console, stop_at)
