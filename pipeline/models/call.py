"""From requests to the arguments of a diffusers pipeline's call.

Knows nothing of weights, devices or caching. Written against diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.models.spec import STANDARD_ARGUMENTS, ModelSpec
from pipeline.requests.sample_request import SampleRequest


def sampling_arguments(spec: ModelSpec, request: SampleRequest) -> dict[str, Any]:
    """Arguments that all requests of a batch share: all but texts and seeds."""
    names = spec.pipeline.argument_names
    arguments = {names.get(name, name): getattr(request, name) for name in STANDARD_ARGUMENTS}
    arguments.pop("", None)  # what the call does not take
    arguments |= spec.pipeline.call_arguments(request)
    if request.guidance_scale_2 is not None:
        arguments["guidance_scale_2"] = request.guidance_scale_2
    return arguments


def text_arguments(spec: ModelSpec, requests: Sequence[SampleRequest]) -> dict[str, list[str]]:
    """The prompts of a batch, and its negative prompts where the model reads them.

    Raises:
        ValueError: A negative prompt for a model that would not read it.
    """
    arguments = {"prompt": [request.prompt for request in requests]}
    if spec.pipeline.distilled_guidance:
        if any(request.negative_prompt for request in requests):
            raise ValueError(
                f"{spec.name} reads no negative prompt (its guidance is distilled): leave it empty"
            )
    elif requests[0].guidance_scale > 1.0:
        arguments["negative_prompt"] = [request.negative_prompt for request in requests]
    return arguments
