"""The training clips of the denoiser, encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from rich.console import Console
from torch import Tensor

from jobs.benchmarks.demo_model.train.loop import generator_for, save_atomically
from jobs.benchmarks.demo_model.vae_ops import encode_clip
from jobs.benchmarks.demo_model.worlds import ClipWorld, SpriteWorld

_SEED = 12
_BATCH = 32
_SHARD = 1024
SPRITES = SpriteWorld()


@dataclass(frozen=True)
class Latents:
    """Posteriors of the training clips.

    Attributes:
        attributes: Integer tensor ``(clips, 5)``.
        mean: Posterior means ``(clips, z_dim, latent frames, h, w)``, half precision.
        deviation: Posterior standard deviations, the same shape and precision.
        channel_mean: Mean of each latent channel, ``(z_dim,)``.
        channel_std: Standard deviation of each latent channel, ``(z_dim,)``.
    """

    attributes: Tensor
    mean: Tensor
    deviation: Tensor
    channel_mean: Tensor
    channel_std: Tensor

    def sample(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Draws normalised latents, as ``WanPipeline`` expects them from its denoiser.

        Args:
            index: Clips to draw, ``(batch,)``.
            generator: Source of randomness.

        Returns:
            ``(batch, z_dim, latent frames, h, w)``, each channel near zero mean and unit spread.
        """
        mean = self.mean[index].float()
        latents = mean + self.deviation[index] * torch.randn(mean.shape, generator=generator)
        shape = (1, -1, 1, 1, 1)
        return (latents - self.channel_mean.view(shape)) / self.channel_std.view(shape)


@torch.no_grad()
def _encode_shard(
    vae: AutoencoderKLWan, number: int, clips: int, world: ClipWorld, mixed: bool
) -> dict[str, Tensor]:
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for first in range(0, clips, _BATCH):
        generator = generator_for(_SEED, number * _SHARD + first)
        attributes = world.draw(min(_BATCH, clips - first), generator)
        clip = world.render(attributes, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            mean, log_variance = encode_clip(vae, clip)
        deviation = (0.5 * log_variance.float().clamp(-12, 8)).exp()
        parts.append((attributes, mean.half(), deviation.half()))
    attributes, mean, deviation = (torch.cat(part) for part in zip(*parts, strict=True))
    return {"attributes": attributes, "mean": mean, "deviation": deviation}


def encode_training_clips(
    vae: AutoencoderKLWan,
    clips: int,
    folder: Path,
    console: Console,
    mixed: bool,
    world: ClipWorld = SPRITES,
) -> Latents:
    """Renders and encodes clips, shard by shard; finished shards are read back from disk.

    Args:
        vae: The trained autoencoder.
        clips: Number of clips.
        folder: Where the shards are kept.
        console: Where progress is shown.
        mixed: Whether to encode under bfloat16 autocast.
        world: What the clips show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for number, first in enumerate(range(0, clips, _SHARD)):
        path = folder / f"latents-{number:03d}.pt"
        if not path.exists():
            size = min(_SHARD, clips - first)
            save_atomically(_encode_shard(vae, number, size, world, mixed), path)
            console.log(f"latents: {min(first + _SHARD, clips)}/{clips} clips")
        shards.append(torch.load(path, weights_only=True))
    joined = {key: torch.cat([shard[key] for shard in shards]) for key in shards[0]}
    mean, deviation = joined["mean"].float(), joined["deviation"].float()
    axes = (0, 2, 3, 4)
    variance = mean.var(axes) + deviation.square().mean(axes)
    return Latents(**joined, channel_mean=mean.mean(axes), channel_std=variance.sqrt())
