"""Whole-clip passes through ``AutoencoderKLWan`` for training.

The diffusers class encodes and decodes in chunks of four frames with a feature cache, and clamps
its output, which cuts gradients. Both passes here treat the clip as a whole. They give the same
numbers and train several times faster.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanResample,
    WanResidualDownBlock,
    WanResidualUpBlock,
    WanRMS_norm,
    patchify,
    unpatchify,
)
from torch import Tensor


class _LeanNorm(torch.autograd.Function):
    """RMS normalisation over channels in fewer passes over memory than autograd's own chain.

    Frames are large and channels few, so norms would otherwise take a third of the training time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
        scale = (x.shape[1] ** 0.5 / norm.clamp_min(1e-6)).to(x.dtype)
        unit = x * scale
        ctx.save_for_backward(unit, scale, gamma)
        return unit * gamma.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        unit, scale, gamma = ctx.saved_tensors
        (gradient,) = gradients
        along = gradient * unit
        gamma_gradient = along.float().sum((0, 2, 3, 4)).view(gamma.shape)
        gamma = gamma.to(gradient.dtype)
        mean = (along * gamma).mean(1, keepdim=True)
        return (gradient * gamma - unit * mean) * scale, gamma_gradient


def use_lean_norms(vae: AutoencoderKLWan) -> None:
    """Replaces the three-dimensional norms of an autoencoder by ones that train faster."""
    for module in vae.modules():
        if isinstance(module, WanRMS_norm) and module.gamma.ndim == 4:
            gamma = module.gamma
            module.forward = lambda x, gamma=gamma: _LeanNorm.apply(x, gamma)


def _spatial(layer: WanResample, x: Tensor) -> Tensor:
    """Applies the per-frame part of a resampler to ``(batch, channels, frames, h, w)``."""
    batch, _, frames, _, _ = x.shape
    x = layer.resample(x.transpose(1, 2).flatten(0, 1))
    return x.reshape(batch, frames, *x.shape[1:]).transpose(1, 2)


def _downsample(layer: WanResample, x: Tensor) -> Tensor:
    x = _spatial(layer, x)
    if layer.mode != "downsample3d" or x.shape[2] == 1:
        return x
    # The first frame passes unchanged, and the strided kernel starts on it.
    return torch.cat([x[:, :, :1], layer.time_conv(x)], dim=2)


def _upsample(layer: WanResample, x: Tensor) -> Tensor:
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        # The first frame passes unchanged, and the others do not see it (zero padding).
        doubled = layer.time_conv(x[:, :, 1:])
        earlier, later = doubled.chunk(2, dim=1)
        doubled = torch.stack([earlier, later], dim=3).flatten(2, 3)
        x = torch.cat([x[:, :, :1], doubled], dim=2)
    return _spatial(layer, x)


def encode_clip(vae: AutoencoderKLWan, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Encodes whole clips.

    Args:
        vae: A residual ("Wan 2.2" style) autoencoder.
        clip: ``(batch, 3, frames, height, width)`` in [-1, 1]; frames is 1 + 4k.

    Returns:
        Mean and log-variance of the latents, each ``(batch, z_dim, 1 + k, height/8, width/8)``.

    Raises:
        TypeError: The autoencoder is not of the residual kind.
    """
    encoder = vae.encoder
    x = encoder.conv_in(patchify(clip, vae.config.patch_size))
    for block in encoder.down_blocks:
        if not isinstance(block, WanResidualDownBlock):
            raise TypeError("encode_clip needs an autoencoder with is_residual=True")
        shortcut = block.avg_shortcut(x)
        for resnet in block.resnets:
            x = resnet(x)
        if block.downsampler is not None:
            x = _downsample(block.downsampler, x)
        x = x + shortcut
    x = encoder.nonlinearity(encoder.norm_out(encoder.mid_block(x)))
    mean, log_variance = vae.quant_conv(encoder.conv_out(x)).chunk(2, dim=1)
    return mean, log_variance


def decode_clip(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Decodes whole clips, without clamping.

    Args:
        vae: A residual ("Wan 2.2" style) autoencoder.
        latents: ``(batch, z_dim, 1 + k, h, w)``.

    Returns:
        ``(batch, 3, 1 + 4k, 8h, 8w)``, about [-1, 1].

    Raises:
        TypeError: The autoencoder is not of the residual kind.
    """
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        if not isinstance(block, WanResidualUpBlock):
            raise TypeError("decode_clip needs an autoencoder with is_residual=True")
        shortcut = None
        if block.avg_shortcut is not None:
            shortcut = block.avg_shortcut(x, first_chunk=True)
        for resnet in block.resnets:
            x = resnet(x)
        if block.upsampler is not None:
            x = _upsample(block.upsampler, x)
        if shortcut is not None:
            x = x + shortcut
    x = decoder.conv_out(decoder.nonlinearity(decoder.norm_out(x)))
    return unpatchify(x, vae.config.patch_size)
