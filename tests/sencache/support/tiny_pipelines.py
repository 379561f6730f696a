"""A tiny random pipeline of every supported family, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import torch
from diffusers import LTXImageToVideoPipeline, LTXPipeline

from sencache.families.registry import family_of
from sencache.profiles.metadata import dtype_name, sampler_facts
from sencache.profiles.profile import SensitivityProfile
from tests.sencache.support.tiny_models import (
    DIM,
    POOLED,
    SIZE,
    TOKENS,
    make_cogvideox,
    make_cogvideox_image,
    make_hunyuan,
    make_hunyuan_image,
    make_ltx,
    make_mochi,
    make_wan,
    make_wan_experts,
    make_wan_image,
    make_wan_image_22,
    make_wan_vace,
)
from tests.sencache.support.toys import make_profile

FRAMES, STEPS = 5, 8


@dataclass(frozen=True)
class TinyPipeline:
    """How to make a pipeline and how to call it.

    Attributes:
        name: For test ids.
        make: Builds it.
        inputs: Its inputs besides prompts for a batch of seeds.
        guidance: How it evaluates both branches: in one call, in two, or not at all.
        guided: Options that turn guidance on; unguided: those that turn it off.
        networks: Attributes of its transformers, in the order in which they run.
        masks: Whether prompts come with attention masks; pooled: with pooled embeddings.
        num_frames: Frames of a clip.
    """

    name: str
    make: Callable[[], Any]
    guidance: Literal["one call", "two calls", "none"]
    inputs: Callable[[Sequence[int]], dict[str, Any]] = lambda _seeds: {}
    guided: Mapping[str, Any] = field(default_factory=lambda: {"guidance_scale": 5.0})
    unguided: Mapping[str, Any] = field(default_factory=lambda: {"guidance_scale": 1.0})
    networks: tuple[str, ...] = ("transformer",)
    masks: bool = False
    pooled: bool = False
    num_frames: int = FRAMES

    def run(
        self,
        pipe: Any,
        seeds: Sequence[int],
        steps: int = STEPS,
        guidance: bool = True,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> torch.Tensor:
        """Latents of one call, one row per seed; every row has its own prompt and noise.

        `dtype` is that of the prompts, as the text encoder would give them.
        """
        inputs: dict[str, Any] = {
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "height": SIZE,
            "width": SIZE,
            "num_frames": self.num_frames,
            "num_inference_steps": steps,
            "output_type": "latent",
        }
        for prefix, texts in (("", seeds), ("negative_", [NEGATIVE] * len(seeds))):
            if prefix and not guidance:
                continue
            inputs[f"{prefix}prompt_embeds"] = prompts(texts).to(dtype)
            if self.masks:
                inputs[f"{prefix}prompt_attention_mask"] = mask(texts)
            if self.pooled:
                inputs[f"{prefix}pooled_prompt_embeds"] = prompts(texts)[:, 0, :POOLED].to(dtype)
        inputs |= self.inputs(seeds) | dict(self.guided if guidance else self.unguided) | options
        frames: torch.Tensor = pipe(**inputs).frames
        return frames


def fitting_profile(pipe: Any, network: Any = None) -> SensitivityProfile:
    """A constant profile of a pipeline or, if only that is at hand, of a network."""
    network = network or pipe.transformer
    scheduler = getattr(pipe, "scheduler", None)
    return make_profile(
        1.0,
        0.05,
        family=family_of(network).name,
        num_inference_steps=STEPS,
        dtype=dtype_name(network.dtype),
        **(sampler_facts(scheduler) if scheduler else {}),
    )


NEGATIVE = 99


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompts(seeds: Sequence[int]) -> torch.Tensor:
    """Random prompt embeddings, ever farther from the negative one so that rows differ."""
    negative = noise(NEGATIVE, 1, TOKENS, DIM)
    return torch.cat(
        [
            negative + (0 if seed == NEGATIVE else 0.5 + seed % 4) * noise(seed, 1, TOKENS, DIM)
            for seed in seeds
        ]
    )


def mask(seeds: Sequence[int]) -> torch.Tensor:
    """Prompts of different lengths."""
    return torch.stack([torch.arange(TOKENS) < TOKENS - seed % 3 for seed in seeds])


def pictures(seeds: Sequence[int]) -> torch.Tensor:
    """An image in [0, 1] per seed."""
    return torch.cat([noise(seed, 1, 3, SIZE, SIZE).sigmoid() for seed in seeds])


def first_image(_seeds: Sequence[int]) -> dict[str, Any]:
    return {"image": pictures([7])}  # Wan's pipeline takes one image for all rows


def both_images(_seeds: Sequence[int]) -> dict[str, Any]:
    return {"image": pictures([7]), "last_image": pictures([8])}


def image_per_row(seeds: Sequence[int]) -> dict[str, Any]:
    return {"image": pictures(seeds)}


def control_per_row(seeds: Sequence[int]) -> dict[str, Any]:
    return {"video": torch.stack([pictures([seed] * FRAMES) for seed in seeds])}


NO_GUIDANCE: dict[str, Any] = {"guided": {"guidance_scale": 6.0}, "unguided": {}}
TRUE_GUIDANCE: dict[str, Any] = {
    "guided": {"true_cfg_scale": 5.0},
    "unguided": {"true_cfg_scale": 1.0},
}
HUNYUAN: dict[str, Any] = {"masks": True, "pooled": True}

PIPELINES: tuple[TinyPipeline, ...] = (
    TinyPipeline("wan", make_wan, "two calls"),
    TinyPipeline(
        "wan-experts", make_wan_experts, "two calls", networks=("transformer", "transformer_2")
    ),
    TinyPipeline("wan-i2v", lambda: make_wan_image(1), "two calls", first_image),
    TinyPipeline("wan-flf2v", lambda: make_wan_image(2), "two calls", both_images),
    TinyPipeline(
        "wan-i2v-experts",
        lambda: make_wan_image_22(experts=True),
        "two calls",
        first_image,
        networks=("transformer", "transformer_2"),
    ),
    TinyPipeline("wan-ti2v", lambda: make_wan_image_22(experts=False), "two calls", first_image),
    TinyPipeline("wan-vace", make_wan_vace, "two calls", control_per_row),
    TinyPipeline("cogvideox", make_cogvideox, "one call", num_frames=9),
    TinyPipeline("cogvideox-i2v", make_cogvideox_image, "one call", image_per_row, num_frames=9),
    TinyPipeline("ltx", lambda: make_ltx(LTXPipeline), "one call", masks=True),
    TinyPipeline(
        "ltx-i2v", lambda: make_ltx(LTXImageToVideoPipeline), "one call", image_per_row, masks=True
    ),
    TinyPipeline("hunyuan", make_hunyuan, "none", **HUNYUAN, **NO_GUIDANCE),
    TinyPipeline("hunyuan-cfg", make_hunyuan, "two calls", **HUNYUAN, **TRUE_GUIDANCE),
    TinyPipeline(
        "hunyuan-i2v",
        lambda: make_hunyuan_image("latent_concat"),
        "none",
        image_per_row,
        **HUNYUAN,
        **NO_GUIDANCE,
    ),
    TinyPipeline(
        "hunyuan-i2v-replace",
        lambda: make_hunyuan_image("token_replace"),
        "none",
        image_per_row,
        **HUNYUAN,
        **NO_GUIDANCE,
    ),
    TinyPipeline("mochi", make_mochi, "one call", masks=True, num_frames=7),
)

QUICK = {"wan", "wan-experts", "cogvideox", "ltx", "hunyuan-cfg", "mochi"}
"""One pipeline of every network, and one of two; the variants of their inputs are slow tests."""


def tiny_param(
    tiny: TinyPipeline, *values: Any, name: str = "", quick: bool = True, by_network: bool = False
) -> Any:
    """A pipeline as a parameter of a test, which is slow but for the `QUICK` ones.

    Args:
        tiny: The pipeline.
        values: Parameters beside it.
        name: The id, if it is not that of the pipeline.
        quick: False if it is slow with these values whatever the pipeline.
        by_network: True if the inputs of a pipeline do not matter to what is shown, only its
            network and how it is called: all but the `QUICK` ones are variants.
    """
    marks: tuple[pytest.MarkDecorator, ...] = ()
    if not (quick and tiny.name in QUICK):
        marks = (pytest.mark.slow,)
    if by_network and tiny.name not in QUICK:
        marks = (pytest.mark.slow, pytest.mark.variant)
    return pytest.param(tiny, *values, id=name or tiny.name, marks=marks)
