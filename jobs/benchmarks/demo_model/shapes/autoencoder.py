"""The embedded autoencoder behind the interface that CogVideoX's and LTX's pipelines expect.

A saved pipeline names this module as the library of its autoencoder. diffusers 0.42 takes a class
from a module of that name only if the process has imported it, which
`jobs.benchmarks.demo_model.shapes.catalogue` sees to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKLWan, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor
from torch.nn import functional

_STRIDE = 8
"""Pixels per latent of the embedded autoencoder; in time it is four frames."""


class SpriteAutoencoder(ModelMixin, ConfigMixin):
    """Decodes normalised latents, of which several may be packed into one.

    Attributes:
        inner: The embedded autoencoder; its configuration has the mean and spread of each channel.
        spatial_compression_ratio: Pixels per packed latent, as `LTXPipeline` reads it.
        temporal_compression_ratio: Frames per latent, likewise.
        latents_mean: Zeros: the latents are normalised here and not by the pipeline.
        latents_std: Ones, likewise.
    """

    @register_to_config
    def __init__(
        self,
        wan: dict[str, Any],
        patch: int = 1,
        block_out_channels: Sequence[int] = (1, 1, 1, 1),
        spatial_compression_ratio: int = _STRIDE,
        temporal_compression_ratio: int = 4,
        scaling_factor: float = 1.0,
        timestep_conditioning: bool = False,
    ) -> None:
        """Build with fresh weights.

        Args:
            wan: Configuration of the embedded autoencoder.
            patch: Height and width of the square of latents that is packed into one latent.
            block_out_channels: Its length says the stride to `CogVideoXPipeline`, 2^(length - 1).
            spatial_compression_ratio: Pixels per packed latent.
            temporal_compression_ratio: Frames per latent.
            scaling_factor: What pipelines divide latents by.
            timestep_conditioning: Whether `LTXPipeline` gives the decoder a noise level.
        """
        super().__init__()
        self.inner = AutoencoderKLWan(**wan)
        self.spatial_compression_ratio = spatial_compression_ratio
        self.temporal_compression_ratio = temporal_compression_ratio
        channels = self.inner.config.z_dim * patch**2
        self.register_buffer("latents_mean", torch.zeros(channels))
        self.register_buffer("latents_std", torch.ones(channels))

    @classmethod
    def around(
        cls, vae: AutoencoderKLWan, mean: Tensor, std: Tensor, patch: int
    ) -> SpriteAutoencoder:
        """Wrap a copy of a trained autoencoder.

        Args:
            vae: The autoencoder.
            mean: Mean of each latent channel, ``(z_dim,)``.
            std: Standard deviation of each latent channel, ``(z_dim,)``.
            patch: See the class.
        """
        own = {name: value for name, value in vae.config.items() if not name.startswith("_")}
        stride = _STRIDE * patch
        made = cls(
            wan={**own, "latents_mean": mean.tolist(), "latents_std": std.tolist()},
            patch=patch,
            block_out_channels=[1] * stride.bit_length(),
            spatial_compression_ratio=stride,
        )
        made.inner.load_state_dict(vae.state_dict())
        return made

    def decode(
        self, z: Tensor, temb: Tensor | None = None, return_dict: bool = True
    ) -> DecoderOutput | tuple[Tensor]:
        """Decode packed, normalised latents.

        Args:
            z: ``(clips, z_dim * patch^2, latent frames, h, w)``.
            temb: Not used; `LTXPipeline` passes it.
            return_dict: Whether to return an object instead of a tuple.

        Returns:
            Clips ``(clips, 3, frames, height, width)`` in [-1, 1].
        """
        latents = unpack(z, self.config.patch)
        config = self.inner.config
        mean, std = (
            torch.tensor(values, dtype=z.dtype, device=z.device).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        clips = self.inner.decode(latents * std + mean, return_dict=False)[0]
        return DecoderOutput(sample=clips) if return_dict else (clips,)


def pack(latents: Tensor, patch: int) -> Tensor:
    """Put squares of latents into channels.

    Args:
        latents: ``(clips, channels, frames, h, w)``.
        patch: Height and width of a square.

    Returns:
        ``(clips, channels * patch^2, frames, h / patch, w / patch)``.
    """
    return functional.pixel_unshuffle(latents.transpose(1, 2), patch).transpose(1, 2)


def unpack(packed: Tensor, patch: int) -> Tensor:
    """Undo :func:`pack`."""
    return functional.pixel_shuffle(packed.transpose(1, 2), patch).transpose(1, 2)
