"""Training of a model of another shape than Wan's, on the latents of the same autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from rich.console import Console
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from jobs.benchmarks.demo_model.architecture import make_text_encoder, make_tokenizer
from jobs.benchmarks.demo_model.build import save_pipeline
from jobs.benchmarks.demo_model.shapes.base import ModelShape, encode_captions
from jobs.benchmarks.demo_model.train.config import TrainConfig
from jobs.benchmarks.demo_model.train.dit import draw_clips
from jobs.benchmarks.demo_model.train.latents import Latents
from jobs.benchmarks.demo_model.train.loop import load_average, optimise
from jobs.benchmarks.demo_model.train.run import prepare_latents

CHECKPOINT = "dit.pt"


@dataclass(frozen=True)
class ShapedModel:
    """The trainable parts of a model.

    Attributes:
        shape: Its shape.
        tokenizer: The tokenizer.
        text_encoder: The text encoder.
        network: The denoiser.
    """

    shape: ModelShape
    tokenizer: PreTrainedTokenizerFast
    text_encoder: UMT5EncoderModel
    network: nn.Module

    @classmethod
    def fresh(cls, shape: ModelShape, config: TrainConfig) -> ShapedModel:
        """Builds the parts as they are before the first step."""
        torch.manual_seed(config.dit.seed)
        tokenizer = make_tokenizer(config.world.words)
        if config.text_encoder is None:
            text_encoder = make_text_encoder(len(tokenizer), **config.text_changes)
        else:
            text_encoder = UMT5EncoderModel.from_pretrained(
                config.text_encoder,
                subfolder="text_encoder",
                dtype=torch.float32,
                use_safetensors=True,
            )
        return cls(shape, tokenizer, text_encoder, shape.make_network(**config.transformer_changes))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All weights, in the order of a checkpoint."""
        return [*self.text_encoder.parameters(), *self.network.parameters()]

    def save(
        self, folder: Path, vae: AutoencoderKLWan, latents: Latents, config: TrainConfig
    ) -> None:
        """Saves a pipeline of the parts, in half precision; it converts them in place."""
        pipeline = self.shape.build_pipeline(
            self.tokenizer,
            self.text_encoder,
            self.network,
            vae,
            latents.channel_mean,
            latents.channel_std,
        )
        save_pipeline(pipeline, folder)
        config.world.describe(folder)


def train_shape(
    shape: ModelShape,
    config: TrainConfig,
    folder: Path,
    console: Console,
    stop_at: int | None = None,
) -> Path:
    """Trains a model, resuming from what the folder holds, and saves the pipeline.

    Args:
        shape: Its shape.
        config: Hyperparameters; the same as before when resuming.
        folder: Folder of the run, for checkpoints and the result.
        console: Where progress is shown.
        stop_at: Stop early after this many steps in all.

    Returns:
        The folder of the saved pipeline.

    Raises:
        StoppedEarlyError: The loop stopped at ``stop_at``.
    """
    vae, latents = prepare_latents(config, folder, console)
    model = ShapedModel.fresh(shape, config)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        clean, captions = draw_clips(latents, config, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.dit.mixed_precision):
            text = encode_captions(captions, model.tokenizer, model.text_encoder)
            return shape.loss(model.network, clean, text, generator)

    # Plain products: the backward pass of the fused kernels is slow at these sizes.
    with sdpa_kernel(SDPBackend.MATH):
        optimise(
            shape.name,
            model.parameters,
            loss_of,
            config.dit,
            folder / CHECKPOINT,
            console,
            stop_at,
        )
    result = folder / "pipeline"
    model.save(result, vae, latents, config)
    console.log(f"saved {result}")
    return result


def save_preview(shape: ModelShape, config: TrainConfig, folder: Path, console: Console) -> Path:
    """Saves a pipeline of the averaged weights so far, of a run that may go on meanwhile.

    Returns:
        The folder of the saved pipeline, ``preview`` in that of the run.
    """
    vae, latents = prepare_latents(config, folder, console)
    model = ShapedModel.fresh(shape, config)
    step = load_average(model.parameters, folder / CHECKPOINT)
    result = folder / "preview"
    model.save(result, vae, latents, config)
    console.log(f"saved {result} after {step} steps")
    return result
