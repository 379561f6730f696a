"""A registered model in its true shape with random weights, for timing without a download.

The time of a network does not depend on its weights. Written for diffusers 0.42.
"""

from __future__ import annotations

from typing import Any

import torch

from jobs.benchmarks.sampling.denoising_loop import DenoisingLoop
from pipeline.errors import UserError
from pipeline.models.call import sampling_arguments
from pipeline.models.samplers import make_scheduler, sampler_name
from pipeline.models.spec import ModelSpec
from pipeline.requests.sample_request import SampleRequest
from sencache import SensitivityProfile
from sencache.extension import ProfileMetadata, SensitivityPoint, architecture_of

_WAN: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "wan2.1-t2v-1.3b": _WAN | {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960},
    "wan2.1-t2v-14b": _WAN | {"num_layers": 40, "num_attention_heads": 40, "ffn_dim": 13824},
}
"""Configurations of the transformers as published by the models' authors."""


def random_loop(
    spec: ModelSpec,
    rows: int,
    device: torch.device,
    *,
    steps: int = 0,
    height: int = 0,
    width: int = 0,
    num_frames: int = 0,
    layers: int = 0,
    text_tokens: int = 0,
) -> DenoisingLoop:
    """Build a model's transformer and its denoising loop; 0 stands for the model's own number.

    Args:
        spec: The model; only the transformer and the scheduler of its pipeline are made.
        rows: Rows of random text embeddings.
        device: On a CPU the weights are float32, else of the model's dtype.
        steps: Steps of the sampler.
        height: Height in pixels.
        width: Width in pixels.
        num_frames: Frames.
        layers: Blocks of the transformer.
        text_tokens: Length of each text; by default that of the longest prompt.

    Raises:
        UserError: No architecture is known for the model, or it cannot make this size.
    """
    import diffusers

    if spec.name not in ARCHITECTURES:
        raise UserError(
            f"--random-weights: no architecture of {spec.name} is listed, "
            f"only of {', '.join(ARCHITECTURES)}"
        )
    own = spec.defaults
    size = (width or own.width, height or own.height, num_frames or own.num_frames)
    if problem := spec.sizes.problem(*size):
        raise UserError(f"{spec.name} cannot make this size: {problem}")
    config = dict(ARCHITECTURES[spec.name])
    config["num_layers"] = layers or config["num_layers"]
    dtype: torch.dtype = torch.float32 if device.type == "cpu" else getattr(torch, spec.dtype)
    torch.manual_seed(0)
    with torch.device(device):
        network = diffusers.WanTransformer3DModel(**config).eval().requires_grad_(False)
        shape = (rows, text_tokens or own.max_sequence_length, config["text_dim"])
        texts = {
            name: torch.randn(shape, dtype=dtype)
            for name in ("prompt_embeds", "negative_prompt_embeds")
        }
    _cast(network, dtype)
    sampler = sampler_name(own.sampler, own.flow_shift)
    pipe = diffusers.WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        transformer=network,
        scheduler=make_scheduler(sampler, spec.family, {}),
    )
    pipe.set_progress_bar_config(disable=True)
    request = SampleRequest(
        prompt="",
        negative_prompt="",
        model=spec.name,
        model_revision="",
        sampler=sampler,
        num_inference_steps=steps or own.num_inference_steps,
        guidance_scale=own.guidance_scale,
        width=size[0],
        height=size[1],
        num_frames=size[2],
        fps=own.fps,
        max_sequence_length=own.max_sequence_length,
        seed=0,
    )
    settings = sampling_arguments(spec, request)
    return DenoisingLoop(
        pipe, settings, texts, tuple(range(rows)), settings.pop("num_inference_steps")
    )


def constant_profile(spec: ModelSpec, loop: DenoisingLoop) -> SensitivityProfile:
    """Return a profile with equal sensitivities at all steps, for random weights.

    With a threshold above every score, only the cap on reuses decides: a fixed pattern.
    """
    settings = loop.settings
    metadata = ProfileMetadata(
        model=spec.name,
        revision="",
        family=spec.family.name,
        sampler=type(loop.pipe.scheduler).__name__,
        shift=spec.defaults.flow_shift,
        num_train_timesteps=1000,
        num_inference_steps=loop.steps,
        guidance_scale=settings["guidance_scale"],
        height=settings["height"],
        width=settings["width"],
        num_frames=settings["num_frames"],
        dtype=str(loop.networks[0].dtype).removeprefix("torch."),
        num_clips=1,
        network_evaluations=1,
        architecture=architecture_of(loop.networks[0]),
    )
    points = tuple(SensitivityPoint(tau, 1.0, 0.0, 1.0, 0.0) for tau in (1.0, 0.0))
    return SensitivityProfile(metadata, {"cond": points, "uncond": points})


def _cast(network: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast a network as loading does: some parts stay in float32."""
    kept = set(getattr(network, "_keep_in_fp32_modules", None) or ())
    for name, parameter in network.named_parameters():
        if not kept.intersection(name.split(".")):
            parameter.data = parameter.data.to(dtype)
