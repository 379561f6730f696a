"""Given clips as a network sees them while sampling: encoded, in its layout and noised.

The paper measures on real clips rather than on the model's own. A clip at one of the sampler's
times is the clip mixed with one fixed noise by the scheduler's own rule; no scheduler is stepped.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sencache.families.base import Family
from sencache.hook.call import Call


@dataclass(frozen=True)
class ClipLatents:
    """Encoded clips in the layout and normalisation of the network's input, without noise.

    Attributes:
        values: Shape [clips, ...], such as [clips, channels, frames, height, width] in units of
            the VAE's latents.
    """

    values: torch.Tensor

    def __len__(self) -> int:
        return len(self.values)


@torch.no_grad()
def encode_clips(pipe: Any, clips: Sequence[torch.Tensor], family: Family) -> ClipLatents:
    """Encode videos with a pipeline's VAE, in its network's layout.

    Args:
        pipe: A diffusers video pipeline.
        clips: Videos of one size, each of shape [frames, 3, height, width] and in 0..1, in the
            size and number of frames that the pipeline will sample.
        family: Family of its transformer.

    Raises:
        ValueError: No clips, or one of another shape or range.
    """
    if not clips:
        raise ValueError("there are no clips to calibrate on")
    vae, device = pipe.vae, getattr(pipe, "_execution_device", pipe.vae.device)
    encoded = []
    for index, clip in enumerate(clips):
        if clip.ndim != 4 or clip.shape[1] != 3 or not clip.is_floating_point():
            raise ValueError(
                f"clip {index} is {clip.dtype} of shape {tuple(clip.shape)}, "
                "not float of shape [frames, 3, height, width]"
            )
        if clip.shape != clips[0].shape:
            raise ValueError(
                f"clip {index} has shape {tuple(clip.shape)}, the first {tuple(clips[0].shape)}"
            )
        low, high = clip.min().item(), clip.max().item()
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(f"clip {index} has values from {low:g} to {high:g}, not in 0..1")
        video = (clip * 2 - 1).transpose(0, 1)[None].to(device, vae.dtype)
        # The mode rather than a sample, so that the same clips give the same profile.
        encoded.append(_normalised(vae, vae.encode(video).latent_dist.mode().float()).cpu())
    latents = torch.cat(encoded)
    if hasattr(pipe, "_pack_latents"):
        latents = pipe._pack_latents(
            latents, pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size
        )
    else:
        latents = latents.movedim(1, family.channel_dim)
    return ClipLatents(latents)


class NoisedClips:
    """A batch of clips at every time of a pipeline's schedule."""

    def __init__(self, pipe: Any, latents: torch.Tensor, seeds: Sequence[int]) -> None:
        """Draw the noise, one per clip.

        Args:
            pipe: The pipeline that will sample; its scheduler is read but not stepped.
            latents: Shape [clips, ...], see :class:`ClipLatents`.
            seeds: One per clip.
        """
        self._pipe, self._latents = pipe, latents.float()
        self._noise = torch.stack(
            [
                torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(seed))
                for seed in seeds
            ]
        )

    def at(self, step: int) -> torch.Tensor:
        """The clips with the noise of a sampler's step, float32, shape [clips, ...]."""
        scheduler = copy.copy(self._pipe.scheduler)
        if isinstance(getattr(scheduler, "sigmas", None), torch.Tensor):
            scheduler.sigmas = scheduler.sigmas.cpu()  # where the clips are
        timestep = scheduler.timesteps[step].expand(len(self._latents)).cpu()
        if hasattr(scheduler, "set_begin_index"):
            # The index says the step: timesteps that are rounded to whole numbers can coincide.
            scheduler._step_index = None
            scheduler.set_begin_index(step)
        noised: torch.Tensor
        if hasattr(scheduler, "scale_noise"):
            noised = scheduler.scale_noise(self._latents, timestep, self._noise)
        else:
            noised = scheduler.add_noise(self._latents, self._noise, timestep)
        return noised

    def like(self, call: Call, step: int) -> torch.Tensor:
        """The whole latents argument of a call with the clips in place of the sampled latents.

        Channels that hold a condition (an image, a mask) stay, and the clips are repeated for
        every branch of guidance in the call.

        Raises:
            ValueError: The clips have another size than the run, or the call's latents contain
                given frames, which must stay.
        """
        family, given = call.family, call.arguments[call.family.latents].detach()
        timestep = torch.as_tensor(call.arguments[family.timestep])
        if timestep.ndim > 1 and bool((timestep != timestep.flatten()[0]).any()):
            raise ValueError(
                "the run is conditioned on frames among its latents, so clips cannot stand in "
                "for these; calibrate on sampled clips"
            )
        clips = self.at(step)
        copies, left_over = divmod(call.rows, len(clips))
        if left_over or clips.shape[1:] != call.latents.shape[1:]:
            raise ValueError(
                f"clips have latents of shape {tuple(clips.shape)}, the run's are "
                f"{tuple(call.latents.shape)}; give clips of the run's size and number of frames"
            )
        clips = torch.cat([clips] * copies).to(given.device, given.dtype)
        channels = call.latents.shape[family.channel_dim]
        rest = given.shape[family.channel_dim] - channels
        condition = given.narrow(family.channel_dim, channels, rest)
        return torch.cat([clips, condition], family.channel_dim)


def _normalised(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents in the network's normalisation; float32, shape [clips, channels, frames, h, w]."""
    scale = vae.config.get("scaling_factor") or 1.0
    mean, std = (_statistic(vae, name, latents) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return latents * scale
    return (latents - mean) * scale / std


def _statistic(vae: Any, name: str, like: torch.Tensor) -> torch.Tensor | None:
    """A value per channel from the VAE's config or buffers; None if it has none."""
    value = vae.config.get(name)
    if value is None:
        value = dict(vae.named_buffers()).get(name)
    if value is None:
        return None
    return torch.as_tensor(value).to(like).view(1, -1, 1, 1, 1)
