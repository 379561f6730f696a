"""The LTX shape: packed latents, masked cross-attention, flow matching with a shift by size.

The scheduler's settings are those of Lightricks/LTX-Video, with the two sequence lengths between
which the shift grows brought down to these small clips.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from jobs.benchmarks.demo_model.architecture import TEXT_ENCODER_CONFIG, Z_DIM
from jobs.benchmarks.demo_model.shapes.autoencoder import SpriteAutoencoder, pack
from jobs.benchmarks.demo_model.shapes.base import (
    LATENT_FRAMES,
    LATENT_SIZE,
    TEXT_LENGTH,
    EncodedText,
    ModelShape,
)
from jobs.benchmarks.demo_model.train.dit import draw_sigmas
from pipeline.models.demo import DEFAULTS
from pipeline.models.families import ltx
from pipeline.models.samplers import EULER, UNIPC
from pipeline.models.spec import ModelSpec, SamplingDefaults

_PATCH = 2
_SIDE = LATENT_SIZE // _PATCH
TOKENS = LATENT_FRAMES * _SIDE**2
"""Video tokens of a clip."""

_HEADS, _HEAD_WIDTH = 6, 32

NETWORK: dict[str, Any] = {
    # LTX has no patches of its own: what Wan's network packs, its autoencoder packs.
    "in_channels": Z_DIM * _PATCH**2,
    "out_channels": Z_DIM * _PATCH**2,
    "num_attention_heads": _HEADS,
    "attention_head_dim": _HEAD_WIDTH,
    "cross_attention_dim": _HEADS * _HEAD_WIDTH,
    "num_layers": 4,
    "caption_channels": TEXT_ENCODER_CONFIG["d_model"],
}

SCHEDULE: dict[str, Any] = {
    "use_dynamic_shifting": True,
    "base_shift": 0.95,
    "max_shift": 2.05,
    "base_image_seq_len": 64,  # Lightricks/LTX-Video: 1024
    "max_image_seq_len": 256,  # Lightricks/LTX-Video: 4096
    "shift_terminal": 0.1,
}

FAMILY = dataclasses.replace(ltx.LTX, samplers=(*ltx.LTX.samplers, UNIPC))
"""The family with one more sampler for comparisons: its own are Euler and a random one, for which
nothing can be planned. UniPC of diffusers shifts noise levels by size, too."""

SPEC = ModelSpec(
    name="sprites-ltx",
    pipeline=dataclasses.replace(ltx.TEXT_TO_VIDEO, family=FAMILY),
    hub_id="",
    revision="",
    licence="Apache-2.0",
    dtype="float32",
    defaults=SamplingDefaults(
        width=DEFAULTS.width,
        height=DEFAULTS.height,
        num_frames=DEFAULTS.num_frames,
        fps=DEFAULTS.fps,
        num_inference_steps=50,
        guidance_scale=3.0,
        max_sequence_length=TEXT_LENGTH,
        sampler=EULER,
    ),
    sources={"*": "jobs/benchmarks/demo_model/shapes/ltx.py: as it was trained"},
    batch_rows=4,
    registered=False,
)


def shift_of(tokens: int) -> float:
    """Shift of the noise levels of a clip of so many tokens, as `LTXPipeline` has it."""
    bounds = (SCHEDULE["base_image_seq_len"], SCHEDULE["max_image_seq_len"])
    return math.exp(calculate_shift(tokens, *bounds, SCHEDULE["base_shift"], SCHEDULE["max_shift"]))


class LTXShape(ModelShape):
    """The shape of `LTXPipeline`."""

    name = "ltx"
    spec = SPEC
    patch = _PATCH

    def make_network(self, **changes: Any) -> nn.Module:
        """See the base class."""
        network: nn.Module = LTXVideoTransformer3DModel(**{**NETWORK, **changes})
        return network

    def loss(
        self, network: nn.Module, clean: Tensor, text: EncodedText, generator: torch.Generator
    ) -> Tensor:
        """See the base class."""
        tokens = pack(clean, _PATCH).flatten(2).transpose(1, 2)
        sigmas = draw_sigmas(len(tokens), generator, shift_of(TOKENS))
        noise = torch.randn(tokens.shape, generator=generator)
        level = sigmas[:, None, None]
        stride = 8 * _PATCH
        predicted = network(
            hidden_states=(1 - level) * tokens + level * noise,
            encoder_hidden_states=text.embeddings,
            timestep=1000 * sigmas,
            encoder_attention_mask=text.mask,
            num_frames=LATENT_FRAMES,
            height=_SIDE,
            width=_SIDE,
            rope_interpolation_scale=(4 / DEFAULTS.fps, stride, stride),
            return_dict=False,
        )[0]
        error: Tensor = (predicted.float() - (noise - tokens)).square().mean()
        return error

    def assemble(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: UMT5EncoderModel,
        network: nn.Module,
        autoencoder: SpriteAutoencoder,
    ) -> DiffusionPipeline:
        """See the base class."""
        return LTXPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULE),
            vae=autoencoder,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            transformer=network,
        )
