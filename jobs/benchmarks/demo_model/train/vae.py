"""Training of the autoencoder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from jobs.benchmarks.demo_model.architecture import make_vae
from jobs.benchmarks.demo_model.train.config import TrainConfig
from jobs.benchmarks.demo_model.train.loop import generator_for, optimise
from jobs.benchmarks.demo_model.vae_ops import decode_clip, encode_clip, use_lean_norms
from jobs.benchmarks.demo_model.worlds import ClipWorld
from pipeline.models.demo import DEFAULTS

_POOL_SEED = 11
_EDGE_WEIGHT = 5.0
_GRADIENT_WEIGHT = 1.0
_RENDER_BATCH = 32


@cache
def make_pool(world: ClipWorld, clips: int) -> Tensor:
    """Renders training clips, once per process.

    Args:
        world: What they show.
        clips: Number of clips.

    Returns:
        Byte tensor ``(clips, 3, frames, height, width)``.
    """
    parts = []
    for first in range(0, clips, _RENDER_BATCH):
        generator = generator_for(_POOL_SEED, first)
        chosen = world.draw(min(_RENDER_BATCH, clips - first), generator)
        clip = world.render(chosen, generator)
        parts.append(((clip + 1) * 127.5).round().to(torch.uint8))
    return torch.cat(parts)


def to_float(clip: Tensor) -> Tensor:
    """Turns bytes into floats in [-1, 1]."""
    return clip.float() / 127.5 - 1


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Absolute error of pixels and of their spatial differences, stronger near edges.

    Outlines tell the shapes apart but cover few pixels, so a plain error would let them blur.

    Args:
        output: ``(batch, 3, frames, height, width)``.
        target: The same shape, in [-1, 1].
    """

    def differences(x: Tensor) -> tuple[Tensor, Tensor]:
        return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]

    across, down = differences(target)
    steps = functional.pad(across.abs(), (0, 1)) + functional.pad(down.abs(), (0, 0, 0, 1))
    edges = functional.max_pool3d(steps.amax(1, keepdim=True), (1, 3, 3), 1, (0, 1, 1))
    weight = 1 + _EDGE_WEIGHT * edges.clamp(max=1)
    pixels = ((output - target).abs() * weight).mean()
    out_across, out_down = differences(output)
    gradients = ((out_across - across).abs() * weight[..., 1:]).mean()
    gradients = gradients + ((out_down - down).abs() * weight[..., 1:, :]).mean()
    return pixels + _GRADIENT_WEIGHT * gradients


@torch.no_grad()
def start_from_images(vae: AutoencoderKLWan) -> None:
    """Makes a fresh autoencoder nearly ignore time, so that it learns still images first.

    Convolutions see almost only the current frame, and temporal resamplers copy it.
    """
    for module in vae.modules():
        if isinstance(module, WanCausalConv3d) and module.kernel_size[0] == 3:
            module.weight[:, :, :2] *= 0.02
    for module in vae.modules():
        if isinstance(module, WanResample) and hasattr(module, "time_conv"):
            weight = module.time_conv.weight
            weight *= 0.02
            module.time_conv.bias.zero_()
            channels = weight.shape[1]
            for part in weight.split(channels):
                part[:, :, -1, 0, 0] += torch.eye(channels)


def _batch(pool: Tensor, step: int, config: TrainConfig, generator: torch.Generator) -> Tensor:
    """Picks crops of short clips in the early steps and whole clips later."""

    def pick(high: int, count: int = 1) -> Tensor:
        return torch.randint(0, high, (count,), generator=generator)

    if step >= config.crop_steps:
        return to_float(pool[pick(len(pool), config.vae.batch)])
    clips = pool[pick(len(pool), config.crop_batch)]
    size, frames = config.crop_size, config.crop_frames
    t = int(pick(DEFAULTS.num_frames - frames + 1))
    y, x = (int(pick((config.world.size - size) // 4 + 1)) * 4 for _ in range(2))
    return to_float(clips[:, :, t : t + frames, y : y + size, x : x + size])


def train_vae(
    config: TrainConfig, checkpoint: Path, console: Console, stop_at: int | None = None
) -> AutoencoderKLWan:
    """Trains the autoencoder.

    Args:
        config: Hyperparameters.
        checkpoint: Where the state is saved and resumed from.
        console: Where progress is shown.
        stop_at: Stop early after this many steps in all.

    Returns:
        The autoencoder with averaged weights.

    Raises:
        StoppedEarlyError: The loop stopped at ``stop_at``.
    """
    torch.manual_seed(config.vae.seed)
    if config.vae_start is None:
        vae = make_vae(**config.vae_changes)
        start_from_images(vae)
    else:
        vae = AutoencoderKLWan.from_pretrained(
            config.vae_start, subfolder="vae", torch_dtype=torch.float32, use_safetensors=True
        )
    use_lean_norms(vae)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        clip = _batch(make_pool(config.world, config.pool_clips), step, config, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.vae.mixed_precision):
            mean, log_variance = encode_clip(vae, clip)
        mean, log_variance = mean.float(), log_variance.float().clamp(-12, 8)
        noise = torch.randn(mean.shape, generator=generator)
        latents = mean + noise * (0.5 * log_variance).exp()
        with torch.autocast("cpu", torch.bfloat16, enabled=config.vae.mixed_precision):
            output = decode_clip(vae, latents)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return reconstruction_loss(output.float(), clip) + config.kl_weight * divergence

    parameters = list(vae.parameters())
    optimise("vae", parameters, loss_of, config.vae, checkpoint, console, stop_at)
    return vae
