"""What differs between the models of other shapes: network, noise, target, pipeline class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from jobs.benchmarks.demo_model.shapes.autoencoder import SpriteAutoencoder
from pipeline.models.demo import DEFAULTS
from pipeline.models.spec import ModelSpec

TEXT_LENGTH = 16
"""Padded length of captions in tokens; the longest caption has 11."""

LATENT_FRAMES = (DEFAULTS.num_frames - 1) // 4 + 1
LATENT_SIZE = DEFAULTS.height // 8
"""Size of a clip in latents of the embedded autoencoder."""


@dataclass(frozen=True)
class EncodedText:
    """Encoded captions.

    Attributes:
        embeddings: ``(captions, TEXT_LENGTH, width)``; padding is encoded like a word.
        mask: ``(captions, TEXT_LENGTH)``, false for padding.
    """

    embeddings: Tensor
    mask: Tensor


def encode_captions(
    captions: Sequence[str], tokenizer: PreTrainedTokenizerFast, text_encoder: UMT5EncoderModel
) -> EncodedText:
    """Encodes captions as the pipelines of CogVideoX and LTX do, without a mask in the encoder."""
    tokens = tokenizer(
        list(captions),
        padding="max_length",
        max_length=TEXT_LENGTH,
        truncation=True,
        return_tensors="pt",
    )
    return EncodedText(text_encoder(tokens.input_ids)[0], tokens.attention_mask.bool())


class ModelShape(ABC):
    """A kind of small model.

    Attributes:
        name: Value of ``--shape``.
        spec: How the product samples a saved model of this shape.
        patch: See :class:`SpriteAutoencoder`.
    """

    name: ClassVar[str]
    spec: ClassVar[ModelSpec]
    patch: ClassVar[int]

    @abstractmethod
    def make_network(self, **changes: Any) -> nn.Module:
        """Builds the denoiser with fresh weights from torch's global generator.

        Args:
            **changes: Entries that replace those of the shape's configuration.
        """

    @abstractmethod
    def loss(
        self, network: nn.Module, clean: Tensor, text: EncodedText, generator: torch.Generator
    ) -> Tensor:
        """Mean square error of the network's prediction on noised latents.

        Args:
            network: The denoiser.
            clean: Normalised latents ``(clips, z_dim, latent frames, h, w)``.
            text: Their encoded captions.
            generator: Source of noise and noise levels.
        """

    @abstractmethod
    def assemble(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: UMT5EncoderModel,
        network: nn.Module,
        autoencoder: SpriteAutoencoder,
    ) -> DiffusionPipeline:
        """Puts the parts into a pipeline of the shape's class, with its scheduler."""

    def build_pipeline(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: UMT5EncoderModel,
        network: nn.Module,
        vae: AutoencoderKLWan,
        channel_mean: Tensor,
        channel_std: Tensor,
    ) -> DiffusionPipeline:
        """Assembles the pipeline; see `jobs.benchmarks.demo_model.build.build_pipeline`."""
        autoencoder = SpriteAutoencoder.around(vae, channel_mean, channel_std, self.patch)
        return self.assemble(tokenizer, text_encoder, network, autoencoder)
