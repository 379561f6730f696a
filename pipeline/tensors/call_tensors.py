"""Takes the latents, their trajectory and the text embeddings of clips from a pipeline's call.

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
from pipeline.tensors.tensor_file import (
    FORMAT,
    LATENTS,
    META_KEY,
    TEXT_EMBEDS,
    TRAJECTORY,
    TRAJECTORY_TIMESTEPS,
)
from pipeline.tensors.trajectory import StepStates

_NEGATIVE = "negative_"
_EMBEDS, _MASK = "prompt_embeds", "prompt_attention_mask"


class KeptLatents:
    """What one call gives to `vae.decode`, and the states that its sampler had before."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._given: list[torch.Tensor] = []
        self.trajectory = StepStates()

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
        scale: Of its latents, where they or their trajectories are saved.
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
        kind = next((each for each in (LATENTS, TRAJECTORY) if each in save), "")
        if not kind:
            return cls(save, spec)
        vae: Any = getattr(pipe, "vae", None)
        if not hasattr(vae, "decode"):
            raise UserError(f"--save {kind}: {spec.name} has no VAE, and no latents; leave it out")
        if getattr(vae.config, "timestep_conditioning", False):
            raise UserError(
                f"--save {kind}: the decoder of {spec.name} takes latents with noise and a time, "
                "from which no trainer learns; leave it out"
            )
        return cls(save, spec, LatentScale.of(vae))

    @property
    def embeds(self) -> bool:
        """Whether texts must be encoded apart from the call."""
        return TEXT_EMBEDS in self.save

    @contextlib.contextmanager
    def watching(self, pipe: Any, *, answers: bool) -> Iterator[KeptLatents]:
        """Keep what the call inside the block decodes, and how it got there.

        Args:
            pipe: A diffusers pipeline, with a scheduler that no other call has.
            answers: Whether this rank returns clips that are kept; else nothing is.
        """
        kept = KeptLatents()
        if self.scale is None or not answers:
            yield kept
            return

        def decode(before: Callable[..., Any], z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            kept.keep(z)
            return before(z, *args, **kwargs)

        with contextlib.ExitStack() as watched:
            watched.enter_context(decode_wrapped(pipe, decode))
            if TRAJECTORY in self.save:
                watched.enter_context(kept.trajectory.follow(pipe.scheduler))
            yield kept

    def files(
        self,
        requests: Sequence[SampleRequest],
        kept: KeptLatents,
        texts: Mapping[str, Any],
        evaluations: Sequence[int],
    ) -> list[bytes | None]:
        """The file of each clip of a call; None for a draft, which is thrown away.

        Args:
            requests: Of the call.
            kept: What it decoded.
            texts: Its arguments that stand for texts.
            evaluations: Network evaluations of each clip, in steps.

        Raises:
            UserError: The call does not show the latents of each clip.
        """
        if not self.save:
            return [None] * len(requests)
        latents: list[torch.Tensor] = []
        states: list[torch.Tensor] = []
        if self.scale is not None and not all(request.draft_of for request in requests):
            latents = kept.per_clip(len(requests))
            if TRAJECTORY in self.save:
                states = kept.trajectory.per_clip(latents, self.scale)
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
                latents[row] if LATENTS in self.save else None,
                {name: each[row] for name, each in embeds.items()},
                (states[row], kept.trajectory, evaluations[row]) if states else None,
            )
            for row, request in enumerate(requests)
        ]

    def _file(
        self,
        request: SampleRequest,
        latents: torch.Tensor | None,
        embeds: dict[str, torch.Tensor],
        way: tuple[torch.Tensor, StepStates, int] | None,
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
        if way is not None:
            tensors[TRAJECTORY] = way[0].contiguous()
            tensors[TRAJECTORY_TIMESTEPS] = way[1].timesteps
            about[TRAJECTORY] = {
                "normalised": True,
                "sampler": request.sampler,
                "guidance_scale": request.guidance_scale,
                "sigmas": way[1].sigmas,
                "nfe": way[2],
            }
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
