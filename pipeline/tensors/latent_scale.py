"""How the latents that a decoder takes are scaled, so that a trainer can normalise them.

The networks work on normalised latents. Before it decodes, a pipeline turns them into the scale of
its VAE, which is that of the VAE's encoder. In all classes of diffusers 0.42 that are registered
here this is the inverse of

    normalised = (latents - mean) * scaling_factor / std

with what a VAE's configuration has of the three.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class LatentScale:
    """The scale of a VAE's latents.

    Attributes:
        vae: Class of the VAE.
        mean: Of each channel; None is 0.
        std: Of each channel; None is 1.
        scaling_factor: Of all channels.
    """

    vae: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scaling_factor: float = 1.0

    @classmethod
    def of(cls, vae: Any) -> LatentScale:
        """Read the scale of a VAE of diffusers."""
        buffers, config = dict(vae.named_buffers(recurse=False)), vae.config

        def known(name: str) -> tuple[float, ...] | None:
            value = buffers[name].tolist() if name in buffers else getattr(config, name, None)
            return None if value is None else tuple(float(each) for each in value)

        mean, shift = known("latents_mean"), getattr(config, "shift_factor", None)
        if mean is None and shift:
            mean = (float(shift),)
        factor = getattr(config, "scaling_factor", None)
        scaling = 1.0 if factor is None else float(factor)
        return cls(type(vae).__name__, mean, known("latents_std"), scaling)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def normalise(self, latents: torch.Tensor) -> torch.Tensor:
        """Turn what the decoder takes into what the networks work on.

        Args:
            latents: Shape (channels, frames, height, width).

        Returns:
            float32, of the same shape.
        """
        import torch

        def each(values: tuple[float, ...] | None, default: float) -> torch.Tensor:
            return torch.tensor(values or (default,)).view(-1, 1, 1, 1)

        scaled = (latents.float() - each(self.mean, 0.0)) * self.scaling_factor
        return scaled / each(self.std, 1.0)
