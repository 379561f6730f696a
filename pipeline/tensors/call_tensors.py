"""Takes the latents and the text embeddings of clips from a pipeline's call.

Latents are what the call gives to `vae.decode`, bit for bit: the decoder makes the same frames of
them again. They are in the scale of the VAE and not normalised (`pipeline.tensors.latent_scale`).
Text embeddings are those of the prompt, as the call takes them. Written against diffusers 0.42.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save

from pipeline.errors import UserError
from pipeline.models.spec import ModelSpec
from pipeline.requests.sample_request import SampleRequest
from pipeline.tensors.decode_call import decode_wrapped
from pipeline.tensors.latent_scale import LatentScale
from pipeline.tensors.tensor_file import FORMAT, LATENTS, META_KEY, TEXT_EMBEDS

_NEGATIVE = "negative_"
_EMBEDS, _MASK = "prompt_embeds", "prompt_attention_mask"


class DecoderInput:
    """What one call gives to `vae.decode`."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._given: list[torch.Tensor] = []

    def keep(self, latents: torch.Tensor) -> None:
        """Copy what is decoded to the host."""
        self._given.append(latents.detach().to("cpu", copy=True))

    def per_clip(self, clips: int) -> list[torch.Tensor]:
        """The latents of each clip, shape (channels, frames, height, width).

        Raises:
            UserError: The call did not decode all of its clips at once, each whole.
        """
        if len(self._given) != 1 or self._given[0].shape[0] != clips or self._given[0].ndim != 5:
            raise UserError(
                "--save latents: this pipeline does not decode its clips at once and whole, so "
                "it has no latents of a clip; leave it out"
            )
        return list(self._given[0])


@dataclass(frozen=True)
class TensorSaver:
    """Makes the files of an engine's clips.

    Attributes:
        save: Kinds, from `settle_save`.
        spec: Of the model.
        scale: Of its latents, where they are saved.
    """

    save: tuple[str, ...]
    spec: ModelSpec
    scale: LatentScale | None = None

    @classmethod
    def of(cls, pipe: Any, spec: ModelSpec, save: tuple[str, ...]) -> TensorSaver:
        """Check that a loaded pipeline can give what is asked for.

        Raises:
            UserError: It cannot.
        """
        if LATENTS not in save:
            return cls(save, spec)
        vae: Any = getattr(pipe, "vae", None)
        if not hasattr(vae, "decode"):
            raise UserError(f"--save latents: {spec.name} has no VAE, and no latents; leave it out")
        if getattr(vae.config, "timestep_conditioning", False):
            raise UserError(
                f"--save latents: the decoder of {spec.name} takes latents with noise and a time, "
                "from which no trainer learns; leave it out"
            )
        return cls(save, spec, LatentScale.of(vae))

    @property
    def embeds(self) -> bool:
        """Whether texts must be encoded apart from the call."""
        return TEXT_EMBEDS in self.save

    @contextlib.contextmanager
    def decoding(self, pipe: Any, *, answers: bool) -> Iterator[DecoderInput]:
        """Keep what the calls inside the block decode.

        Args:
            pipe: A diffusers pipeline.
            answers: Whether this rank returns clips; the others keep nothing.
        """
        kept = DecoderInput()
        if LATENTS not in self.save or not answers:
            yield kept
            return

        def decode(before: Callable[..., Any], z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            kept.keep(z)
            return before(z, *args, **kwargs)

        with decode_wrapped(pipe, decode):
            yield kept

    def files(
        self, requests: Sequence[SampleRequest], kept: DecoderInput, texts: Mapping[str, Any]
    ) -> list[bytes | None]:
        """The file of each clip of a call; None for a draft, which is thrown away.

        Args:
            requests: Of the call.
            kept: What it decoded.
            texts: Its arguments that stand for texts.

        Raises:
            UserError: The call does not show the latents of each clip.
        """
        if not self.save:
            return [None] * len(requests)
        latents = kept.per_clip(len(requests)) if LATENTS in self.save else []
        embeds = {
            name: each.detach().cpu()
            for name, each in texts.items()
            if self.embeds and not name.startswith(_NEGATIVE)
        }
        return [
            None
            if request.draft_of
            else self._file(
                request,
                latents[row] if latents else None,
                {name: each[row] for name, each in embeds.items()},
            )
            for row, request in enumerate(requests)
        ]

    def _file(
        self,
        request: SampleRequest,
        latents: torch.Tensor | None,
        embeds: dict[str, torch.Tensor],
    ) -> bytes:
        about: dict[str, Any] = {
            "format": FORMAT,
            "sample_id": request.sample_id,
            "model": request.model,
            "model_revision": request.model_revision,
        }
        tensors = {}
        if latents is not None and self.scale is not None:
            tensors[LATENTS] = latents.contiguous()
            about[LATENTS] = {"normalised": False, **self.scale.to_dict()}
        if embeds:
            about[TEXT_EMBEDS] = {"padded_length": embeds[_EMBEDS].shape[0]}
            if _MASK not in embeds:
                embeds[_EMBEDS] = without_zero_rows(embeds[_EMBEDS])
            tensors |= {name: each.contiguous() for name, each in embeds.items()}
        return save(tensors, {META_KEY: json.dumps(about, sort_keys=True)})


def without_zero_rows(embeds: torch.Tensor) -> torch.Tensor:
    """Leave out the rows of zeros at the end, with which some encoders pad a text.

    Args:
        embeds: Shape (tokens, channels).

    Returns:
        At least one row; padded with zeros again it is what it was.
    """
    used = embeds.ne(0).any(dim=1).nonzero()
    return embeds[: int(used[-1]) + 1 if len(used) else 1]
