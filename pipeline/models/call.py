"""From requests to the arguments of a diffusers pipeline's call, and what no call can take.

Knows nothing of weights, devices or caching. Written against diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.models.spec import STANDARD_ARGUMENTS, ModelSpec
from pipeline.prompts.condition_columns import CONDITION_COLUMNS
from pipeline.requests.sample_request import SampleRequest
from pipeline.tensors.save_choice import settle_save

if TYPE_CHECKING:
    from pipeline.config.run_config import RunConfig


def check_call(config: RunConfig, spec: ModelSpec) -> None:
    """Refuse columns and batches that a call of the model's pipeline does not take.

    Also refuse to save what it does not give.

    Raises:
        UserError: With the flag.
    """
    settle_save(config.save, spec)
    taken = [each.column for each in spec.conditions]
    for column in config.columns:
        if column in CONDITION_COLUMNS and column not in taken:
            also = f"takes {', '.join(taken)}" if taken else "starts from texts alone"
            raise UserError(
                f"--columns {column}: {spec.name} takes no {column} (it {also}); leave it out"
            )
    length = config.sampling.max_sequence_length
    if spec.text_length is not None and length not in (None, spec.text_length):
        raise UserError(
            f"--sampling.max-sequence-length {length}: the network of {spec.name} takes texts of "
            f"{spec.text_length} tokens and of no other length; leave it out"
        )
    if config.batch_rows != "auto" and config.batch_rows > 1 and spec.pipeline.one_prompt:
        raise UserError(
            f"--batch-rows {config.batch_rows}: {spec.pipeline.name} takes one prompt per call; "
            "leave it out"
        )


def sampling_arguments(spec: ModelSpec, request: SampleRequest) -> dict[str, Any]:
    """Arguments that all requests of a batch share: all but texts and seeds."""
    names = spec.pipeline.argument_names
    arguments = {names.get(name, name): getattr(request, name) for name in STANDARD_ARGUMENTS}
    arguments.pop("", None)  # what the call does not take
    arguments |= spec.pipeline.call_arguments(request)
    if request.guidance_scale_2 is not None:
        arguments["guidance_scale_2"] = request.guidance_scale_2
    return arguments


def text_arguments(
    spec: ModelSpec, requests: Sequence[SampleRequest]
) -> dict[str, list[str]] | dict[str, str]:
    """The prompts of a batch, and its negative prompts where the model reads them.

    Lists, but for a pipeline that takes one prompt per call.

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
    if spec.pipeline.one_prompt:
        return {name: texts[0] for name, texts in arguments.items()}
    return arguments
