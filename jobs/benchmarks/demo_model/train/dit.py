"""Joint training of the denoiser and the text encoder by rectified flow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers import transformer_wan
from rich.console import Console
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from jobs.benchmarks.demo_model.architecture import (
    make_text_encoder,
    make_tokenizer,
    make_transformer,
)
from jobs.benchmarks.demo_model.train.config import TrainConfig
from jobs.benchmarks.demo_model.train.latents import Latents
from jobs.benchmarks.demo_model.train.loop import optimise
from pipeline.models.demo import DEFAULTS, FLOW_SHIFT

_UNIFORM_SHARE = 0.3
_TIMESTEPS = 1000


def _plain_attention(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
    """Attention on ``(batch, tokens, heads, width)`` by plain matrix products, without a mask."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1)
    return (weights.to(value.dtype) @ value).transpose(1, 2)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Makes the denoiser attend by plain products, which trains almost twice as fast on CPUs.

    The backward pass of the fused kernels is slow at these sizes.
    """
    fused = transformer_wan.dispatch_attention_fn
    transformer_wan.dispatch_attention_fn = _plain_attention
    try:
        yield
    finally:
        transformer_wan.dispatch_attention_fn = fused


def draw_sigmas(count: int, generator: torch.Generator, shift: float = FLOW_SHIFT) -> Tensor:
    """Draws noise levels: mostly logit-normal, partly uniform, then shifted as in sampling.

    The uniform part keeps both ends of the schedule trained.

    Args:
        count: Number of levels.
        generator: Source of randomness.
        shift: Shift of the schedule.

    Returns:
        ``(count,)`` in (0, 1).
    """
    middle = torch.sigmoid(torch.randn(count, generator=generator))
    anywhere = torch.rand(count, generator=generator)
    uniform = torch.rand(count, generator=generator) < _UNIFORM_SHARE
    u = torch.where(uniform, anywhere, middle)
    return shift * u / (1 + (shift - 1) * u)


def draw_clips(
    latents: Latents, config: TrainConfig, generator: torch.Generator
) -> tuple[Tensor, list[str]]:
    """Draws a batch of clips and captions, some of which are empty.

    Args:
        latents: Encoded training clips.
        config: Hyperparameters.
        generator: Source of randomness.

    Returns:
        Normalised latents ``(batch, z_dim, latent frames, h, w)`` and one caption for each.
    """
    batch = config.dit.batch
    index = torch.randint(0, len(latents.mean), (batch,), generator=generator)
    clean = latents.sample(index, generator)
    captions = config.world.captions(latents.attributes[index], generator)
    silent = torch.rand(batch, generator=generator) < config.caption_dropout
    return clean, ["" if mute else text for text, mute in zip(captions, silent, strict=True)]


def embed_captions(
    captions: list[str], tokenizer: PreTrainedTokenizerFast, text_encoder: UMT5EncoderModel
) -> Tensor:
    """Embeds captions as ``WanPipeline`` does: padding becomes zeros, which attention sees.

    Args:
        captions: Texts; longer ones are cut.
        tokenizer: The tokenizer.
        text_encoder: The encoder.

    Returns:
        ``(len(captions), max_sequence_length, text_dim)``.
    """
    tokens = tokenizer(
        captions,
        padding="max_length",
        max_length=DEFAULTS.max_sequence_length,
        truncation=True,
        return_tensors="pt",
    )
    hidden = text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    return hidden * tokens.attention_mask[..., None]


def make_denoiser(
    config: TrainConfig,
) -> tuple[PreTrainedTokenizerFast, UMT5EncoderModel, WanTransformer3DModel]:
    """Builds the tokenizer and fresh text encoder and denoiser of a training run."""
    torch.manual_seed(config.dit.seed)
    tokenizer = make_tokenizer(config.world.words)
    text_encoder = make_text_encoder(len(tokenizer), **config.text_changes)
    return tokenizer, text_encoder, make_transformer(**config.transformer_changes)


def train_dit(
    config: TrainConfig,
    latents: Latents,
    checkpoint: Path,
    console: Console,
    stop_at: int | None = None,
) -> tuple[UMT5EncoderModel, WanTransformer3DModel]:
    """Trains the denoiser together with the text encoder.

    Args:
        config: Hyperparameters.
        latents: Encoded training clips.
        checkpoint: Where the state is saved and resumed from.
        console: Where progress is shown.
        stop_at: Stop early after this many steps in all.

    Returns:
        The text encoder and the denoiser with averaged weights.

    Raises:
        StoppedEarlyError: The loop stopped at ``stop_at``.
    """
    tokenizer, text_encoder, transformer = make_denoiser(config)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        clean, captions = draw_clips(latents, config, generator)
        sigmas = draw_sigmas(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator)
        level = sigmas.view(-1, 1, 1, 1, 1)
        noisy = (1 - level) * clean + level * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=config.dit.mixed_precision):
            text = embed_captions(captions, tokenizer, text_encoder)
            velocity = transformer(noisy, _TIMESTEPS * sigmas, text, return_dict=False)[0]
        return (velocity.float() - (noise - clean)).square().mean()

    parameters = [*text_encoder.parameters(), *transformer.parameters()]
    with plain_attention():
        optimise("dit", parameters, loss_of, config.dit, checkpoint, console, stop_at)
    return text_encoder, transformer
