"""Requests into the arguments of a diffusers pipeline's call: what differs between the classes.

Knows nothing of weights, devices or caching. Written against diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.models.samplers import COG_DPM
from pipeline.models.spec import ModelSpec
from pipeline.requests.sample_request import SampleRequest


def sampling_arguments(spec: ModelSpec, request: SampleRequest) -> dict[str, Any]:
    """Everything of a request but its texts and seed: the same for every request of a batch."""
    arguments: dict[str, Any] = {
        "height": request.height,
        "width": request.width,
        "num_frames": request.num_frames,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "max_sequence_length": request.max_sequence_length,
    }
    if spec.family == "ltx":
        arguments["frame_rate"] = request.fps  # scales the network's positions in time
    if request.sampler == COG_DPM:
        arguments["use_dynamic_cfg"] = True  # the authors' setting for this sampler, and only it
    return arguments


def text_arguments(spec: ModelSpec, requests: Sequence[SampleRequest]) -> dict[str, list[str]]:
    """The prompts of a batch, and its negative prompts where the model reads them.

    Raises:
        ValueError: A negative prompt for a model that would not read it.
    """
    arguments = {"prompt": [request.prompt for request in requests]}
    if not takes_negative_prompt(spec):
        if any(request.negative_prompt for request in requests):
            raise ValueError(
                f"{spec.name} reads no negative prompt (its guidance is distilled): leave it empty"
            )
    elif requests[0].guidance_scale > 1.0:
        arguments["negative_prompt"] = [request.negative_prompt for request in requests]
    return arguments


def takes_negative_prompt(spec: ModelSpec) -> bool:
    """Whether a model has an unconditional branch to give a negative prompt to."""
    return spec.family != "hunyuan_video"
