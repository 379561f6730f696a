"""How a tiny pipeline of any video class is called, whatever its guidance is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from diffusers.video_processor import VideoProcessor
from PIL import Image

from tests.sencache.support.tiny_models import SIZE
from tests.sencache.support.tiny_pipelines import NEGATIVE, mask, pictures, prompts

STEPS = 6
GUIDED = 5.0

Inputs = Callable[[Sequence[int]], dict[str, Any]]


@dataclass(frozen=True)
class VideoPipeline:
    """How to make and call a pipeline of one class.

    Attributes:
        make: Builds it.
        inputs: Inputs for a batch of seeds, prompts included; every row has its own.
        scale: Argument that sets the scale of guidance; "guider" where `pipe.guider` has it.
        size: Arguments for the size of the clips.
        options: Other arguments of every call.
        most_rows: Prompts that one call of the pipeline can take.
        chunks: Parts of a clip that are sampled one after another.
        late: Steps of the sampler that a run skips.
        planned: Whether the sampler of the class allows cache schedules.
    """

    make: Callable[[], Any]
    inputs: Inputs
    scale: str = "guidance_scale"
    size: Mapping[str, Any] = field(
        default_factory=lambda: {"height": SIZE, "width": SIZE, "num_frames": 5}
    )
    options: Mapping[str, Any] = field(default_factory=dict)
    most_rows: int = 4
    chunks: int = 1
    late: int = 0
    planned: bool = True

    @property
    def evaluated(self) -> int:
        """Steps of a run."""
        return (STEPS - self.late) * self.chunks

    def run(
        self, pipe: Any, seeds: Sequence[int], *, guidance: bool = True, **more: Any
    ) -> torch.Tensor:
        """Latents of one call, shape [seeds, elements], with those of the sound if there is one."""
        scale = GUIDED if guidance else 1.0
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        given: dict[str, Any] = {
            "generator": generators if self.most_rows > 1 else generators[0],
            "num_inference_steps": STEPS,
            "output_type": "latent",
        }
        if self.scale == "guider":
            pipe.guider = diffusers.ClassifierFreeGuidance(guidance_scale=scale, enabled=guidance)
        else:
            given[self.scale] = scale
        inputs = self.inputs(seeds)
        if not guidance:
            inputs = {
                name: value
                for name, value in inputs.items()
                if value is None or not name.startswith("negative_")
            }
        given |= {**self.size, **self.options, **inputs, **more}
        parts = pipe(**given, return_dict=False)
        if not isinstance(parts, torch.Tensor) and isinstance(parts[0], list):
            parts = parts[0][-1:]  # of every chunk, all latents up to it
        parts = [parts] if isinstance(parts, torch.Tensor) else parts
        found = [part for part in parts if isinstance(part, torch.Tensor)]
        return torch.cat([part.reshape(len(seeds), -1) for part in found], 1)


def texts(*, masked: bool = False) -> Inputs:
    """Prompts of several rows."""

    def of(seeds: Sequence[int]) -> dict[str, Any]:
        negative = [NEGATIVE] * len(seeds)
        given: dict[str, Any] = {
            "prompt_embeds": prompts(seeds),
            "negative_prompt_embeds": prompts(negative),
        }
        if masked:
            given["prompt_attention_mask"] = mask(seeds)
            given["negative_prompt_attention_mask"] = mask(negative)
        return given

    return of


def both(*parts: Inputs) -> Inputs:
    """Several inputs together."""

    def of(seeds: Sequence[int]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for part in parts:
            given |= part(seeds)
        return given

    return of


def always(**values: Any) -> Inputs:
    """Inputs that do not depend on the row."""
    return lambda _seeds: values


def video_per_row(name: str = "video", frames: int = 5) -> Inputs:
    """A video per seed, in [0, 1], shape [rows, frames, 3, height, width]."""
    return lambda seeds: {name: torch.stack([pictures([seed] * frames) for seed in seeds])}


def picture(seed: int = 7) -> Image.Image:
    """An image of a size that the tiny models take."""
    (made,) = VideoProcessor.numpy_to_pil(pictures([seed]).permute(0, 2, 3, 1).numpy())
    return made


def image_per_row(name: str = "image") -> Inputs:
    """An image per seed, in [0, 1]."""
    return lambda seeds: {name: pictures(seeds)}
