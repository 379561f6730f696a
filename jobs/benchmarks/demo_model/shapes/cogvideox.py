"""The CogVideoX shape: joint attention of text and video, v-prediction, zero terminal SNR.

Noise schedule and spacing are those of the scheduler of zai-org/CogVideoX-5b.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DiffusionPipeline,
)
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from jobs.benchmarks.demo_model.architecture import TEXT_ENCODER_CONFIG, Z_DIM
from jobs.benchmarks.demo_model.shapes.autoencoder import SpriteAutoencoder
from jobs.benchmarks.demo_model.shapes.base import (
    LATENT_FRAMES,
    LATENT_SIZE,
    TEXT_LENGTH,
    EncodedText,
    ModelShape,
)
from pipeline.models.demo import DEFAULTS
from pipeline.models.families import cogvideox
from pipeline.models.samplers import UNIPC
from pipeline.models.spec import ModelSpec, SamplingDefaults

_PATCH = 2

NETWORK: dict[str, Any] = {
    "num_attention_heads": 6,
    "attention_head_dim": 32,
    "in_channels": Z_DIM,
    "out_channels": Z_DIM,
    "time_embed_dim": 128,
    "text_embed_dim": TEXT_ENCODER_CONFIG["d_model"],
    "num_layers": 4,
    "sample_width": LATENT_SIZE,
    "sample_height": LATENT_SIZE,
    "sample_frames": DEFAULTS.num_frames,
    "patch_size": _PATCH,
    "max_text_seq_length": TEXT_LENGTH,
    "use_rotary_positional_embeddings": True,
}

SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 1.0,
}

FAMILY = dataclasses.replace(cogvideox.COGVIDEOX, samplers=(*cogvideox.COGVIDEOX.samplers, UNIPC))
"""The family with one more sampler for comparisons: its own are DDIM and a random one, for which
nothing can be planned. UniPC of diffusers knows v-prediction and zero terminal SNR."""

SPEC = ModelSpec(
    name="sprites-cogvideox",
    pipeline=dataclasses.replace(cogvideox.TEXT_TO_VIDEO, family=FAMILY),
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
        guidance_scale=4.0,
        max_sequence_length=TEXT_LENGTH,
        sampler=cogvideox.DDIM,
    ),
    sources={"*": "jobs/benchmarks/demo_model/shapes/cogvideox.py: as it was trained"},
    batch_rows=4,
    registered=False,
)


def rotary_positions(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the positions of a clip, as `CogVideoXPipeline` computes them."""
    side = LATENT_SIZE // _PATCH
    config: Any = network.config
    cosines, sines = get_3d_rotary_pos_embed(
        embed_dim=config.attention_head_dim,
        crops_coords=((0, 0), (side, side)),
        grid_size=(side, side),
        temporal_size=LATENT_FRAMES,
    )
    return cosines, sines


class CogVideoXShape(ModelShape):
    """The shape of `CogVideoXPipeline`."""

    name = "cogvideox"
    spec = SPEC
    patch = 1  # the network makes patches of its own

    def __init__(self) -> None:
        """Prepare the noise schedule."""
        self.scheduler = CogVideoXDDIMScheduler(**SCHEDULE)

    def make_network(self, **changes: Any) -> nn.Module:
        """See the base class."""
        network: nn.Module = CogVideoXTransformer3DModel(**{**NETWORK, **changes})
        return network

    def loss(
        self, network: nn.Module, clean: Tensor, text: EncodedText, generator: torch.Generator
    ) -> Tensor:
        """See the base class; timesteps are spread evenly over the batch, as CogVideoX has it."""
        count = len(clean)
        total = self.scheduler.config.num_train_timesteps
        share = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        timesteps = (share * total).long().clamp(max=total - 1)
        frames = clean.transpose(1, 2)  # CogVideoX has frames before channels
        noise = torch.randn(frames.shape, generator=generator)
        noisy = self.scheduler.add_noise(frames, noise, timesteps)
        velocity = self.scheduler.get_velocity(frames, noise, timesteps)
        predicted = network(
            hidden_states=noisy,
            encoder_hidden_states=text.embeddings,
            timestep=timesteps,
            image_rotary_emb=rotary_positions(network),
            return_dict=False,
        )[0]
        error: Tensor = (predicted.float() - velocity).square().mean()
        return error

    def assemble(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: UMT5EncoderModel,
        network: nn.Module,
        autoencoder: SpriteAutoencoder,
    ) -> DiffusionPipeline:
        """See the base class."""
        return CogVideoXPipeline(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=autoencoder,
            transformer=network,
            scheduler=CogVideoXDDIMScheduler(**SCHEDULE),
        )
