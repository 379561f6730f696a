"""Tiny random pipelines beside those whose outputs can be reused: they can only be counted.

Other families, calls without cache contexts or with contexts of other names, runs that begin late,
networks of several outputs, and U-Nets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch

from tests.sencache.support.late_runs import (
    make_cogvideox_video,
    make_ltx_condition,
    make_skyreels,
    make_wan_video,
    video,
)
from tests.sencache.support.other_networks import (
    make_allegro,
    make_easyanimate,
    make_hunyuan_15,
    make_kandinsky,
    make_latte,
    make_ltx_2,
    make_sana,
    make_unet,
)
from tests.sencache.support.tiny_models import (
    SIZE,
    TOKENS,
)
from tests.sencache.support.tiny_pipelines import mask, prompts

STEPS = 5


@dataclass(frozen=True)
class OtherPipeline:
    """How to make a pipeline, and how to call it.

    Attributes:
        name: For test ids.
        make: Builds it.
        inputs: Arguments of its call, all but the generator and the guidance scale.
        evaluations: Rows that go through the network for a guided sample.
        unguided: The same without guidance; None if it always guides.
        steps: Steps that its network is called at.
    """

    name: str
    make: Callable[[], Any]
    inputs: Callable[[], dict[str, Any]]
    evaluations: int = 2 * STEPS
    unguided: int | None = STEPS
    steps: int = STEPS
    size: Mapping[str, Any] = field(
        default_factory=lambda: {"height": SIZE, "width": SIZE, "num_frames": 5}
    )

    def run(self, pipe: Any, guidance: bool = True) -> torch.Tensor:
        """Latents of one call of two rows."""
        given: dict[str, Any] = {
            "generator": [torch.Generator().manual_seed(seed) for seed in (0, 1)],
            "num_inference_steps": STEPS,
            "output_type": "latent",
        }
        if hasattr(pipe, "guider"):
            pipe.guider = diffusers.ClassifierFreeGuidance(
                guidance_scale=5.0 if guidance else 1.0, enabled=guidance
            )
        else:
            given["guidance_scale"] = 5.0 if guidance else 1.0
        result: torch.Tensor = pipe(**given, **self.size, **self.inputs(), return_dict=False)[0]
        return result


def texts(*, masked: bool = False) -> dict[str, Any]:
    """Prompts of two rows."""
    given: dict[str, Any] = {
        "prompt_embeds": prompts([0, 1]),
        "negative_prompt_embeds": prompts([99, 99]),
    }
    if masked:
        given |= {"prompt_attention_mask": mask([0, 1])}
        given |= {"negative_prompt_attention_mask": mask([2, 2])}
    return given


def two_texts() -> dict[str, Any]:
    """Prompts of the two text encoders of HunyuanVideo 1.5."""
    given: dict[str, Any] = {}
    for prefix, seeds in (("", [0, 1]), ("negative_", [99, 99])):
        for suffix in ("", "_2"):
            given[f"{prefix}prompt_embeds{suffix}"] = prompts(seeds)
            given[f"{prefix}prompt_embeds_mask{suffix}"] = mask(seeds)
    return given


def kandinsky_texts() -> dict[str, Any]:
    lengths = torch.tensor([0, TOKENS, 2 * TOKENS], dtype=torch.int32)
    given: dict[str, Any] = {}
    for prefix, seeds in (("", [0, 1]), ("negative_", [99, 99])):
        given[f"{prefix}prompt_embeds_qwen"] = prompts(seeds)
        given[f"{prefix}prompt_embeds_clip"] = prompts(seeds)[:, 0]
        given[f"{prefix}prompt_cu_seqlens"] = lengths
    return given


LATE: dict[str, Any] = {"evaluations": 6, "unguided": 3, "steps": 3}
BY_EMBEDDING = {"negative_prompt": None}  # its default is a text
NO_FRAMES = {"height": SIZE, "width": SIZE}

OTHERS = [
    OtherPipeline(
        "wan-v2v",
        make_wan_video,
        lambda: texts() | {"video": video(), "strength": 0.6},
        size=NO_FRAMES,
        **LATE,
    ),
    OtherPipeline(
        "cogvideox-v2v-ddim",
        lambda: make_cogvideox_video("CogVideoXDDIMScheduler"),
        lambda: texts() | {"video": video(), "strength": 0.6},
        size=NO_FRAMES,
        **LATE,
    ),
    OtherPipeline(
        "cogvideox-v2v-dpm",
        lambda: make_cogvideox_video("CogVideoXDPMScheduler"),
        lambda: texts() | {"video": video(), "strength": 0.6},
        size=NO_FRAMES,
        **LATE,
    ),
    OtherPipeline(
        "ltx-condition",
        make_ltx_condition,
        lambda: texts(masked=True),
    ),
    OtherPipeline("skyreels", lambda: make_skyreels(diffusers.SkyReelsV2Pipeline), texts),
    OtherPipeline(
        "skyreels-forcing",
        lambda: make_skyreels(diffusers.SkyReelsV2DiffusionForcingPipeline),
        lambda: texts() | {"prompt": None},
    ),
    OtherPipeline(
        "latte",
        make_latte,
        lambda: texts() | BY_EMBEDDING,
        size={"height": SIZE, "width": SIZE, "video_length": 2},
    ),
    OtherPipeline(
        "sana",
        make_sana,
        lambda: texts(masked=True) | BY_EMBEDDING | {"use_resolution_binning": False},
        size=NO_FRAMES | {"frames": 5},
    ),
    OtherPipeline("allegro", make_allegro, lambda: texts(masked=True) | BY_EMBEDDING),
    OtherPipeline("easyanimate", make_easyanimate, lambda: texts(masked=True)),
    OtherPipeline("hunyuan-1.5", make_hunyuan_15, two_texts),
    OtherPipeline("kandinsky", make_kandinsky, kandinsky_texts),
    OtherPipeline(
        "ltx-2",
        make_ltx_2,
        lambda: (
            texts(masked=True)
            | {"spatio_temporal_guidance_blocks": [0], "audio_guidance_scale": None}
        ),
        evaluations=4 * STEPS,
        unguided=3 * STEPS,
    ),
    OtherPipeline("unet", make_unet, texts),
]
