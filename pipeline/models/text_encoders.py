"""Encoding texts apart from the network: embeddings to bytes, and bytes to call arguments.

The tensors of one request travel as safetensors. A text that cannot be encoded travels as its
error, which is raised where its clip would be made. Written against diffusers 0.42.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from safetensors.torch import load, save

from pipeline.models.call import text_arguments
from pipeline.models.load import load_pipeline
from pipeline.models.prompt_length import token_counts
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.requests.sample_request import SampleRequest

_TENSORS, _ERROR = b"T", b"E"
_COUNT = "prompt_tokens"
"""Name under which the number of a prompt's tokens travels with its tensors."""


class TextError(RuntimeError):
    """A text could not be encoded; the sample fails with the encoder's message."""


@torch.no_grad()
def encode_texts(pipe: Any, spec: ModelSpec, requests: Sequence[SampleRequest]) -> list[bytes]:
    """Encode the texts of a batch as its pipeline would.

    Args:
        pipe: A pipeline with its text encoders; its other parts are not used.
        spec: Of the model.
        requests: A batch that agrees in everything but texts and seeds.

    Returns:
        The tensors of each request. A text of 512 tokens of 4,096 channels takes 4 MB in bfloat16,
        and its negative prompt the same again.
    """
    first = requests[0]
    arguments: dict[str, Any] = dict(text_arguments(spec, requests))
    if not spec.pipeline.distilled_guidance:
        arguments["do_classifier_free_guidance"] = "negative_prompt" in arguments
    given = pipe.encode_prompt(
        **arguments, max_sequence_length=first.max_sequence_length, device=pipe.device
    )
    tensors = {
        name: tensor.cpu()
        for name, tensor in zip(spec.pipeline.text_embeddings, given, strict=True)
        if tensor is not None
    }
    counts = token_counts(pipe, arguments["prompt"])
    tensors[_COUNT] = torch.tensor([-1 if count is None else count for count in counts])
    return [
        _TENSORS + save({name: tensor[row].contiguous() for name, tensor in tensors.items()})
        for row in range(len(requests))
    ]


def load_text_encoder(
    model: ResolvedModel, device: str, dtype: str, threads: int
) -> Callable[[Sequence[SampleRequest]], list[bytes]]:
    """Load the text encoders of a model and nothing else; a picklable factory calls it.

    Args:
        model: From `resolve_model`.
        device: Torch device.
        dtype: Torch dtype name; "" for the model's own.
        threads: CPU threads of torch in this process; 0 leaves them.

    Raises:
        UserError: The encoders cannot be loaded.
    """
    if threads:
        torch.set_num_threads(threads)
    pipe = load_pipeline(dataclasses.replace(model, parts="text"), device, dtype)
    return functools.partial(encode_texts, pipe, model.spec)


def failed_text(error: Exception) -> bytes:
    """The error of a text that could not be encoded, in place of its tensors."""
    return _ERROR + f"{type(error).__name__}: {error}".encode()


def embedded_arguments(
    requests: Sequence[SampleRequest], device: torch.device
) -> tuple[dict[str, Any], list[int | None]]:
    """The encoded texts of a batch as arguments of a pipeline's call, and their tokens.

    Raises:
        TextError: One of them could not be encoded.
    """
    rows = []
    for request in requests:
        if request.texts.startswith(_ERROR):
            raise TextError(request.texts[1:].decode())
        rows.append(load(request.texts[1:]))
    counts = [int(row.pop(_COUNT)) for row in rows]
    arguments = {name: torch.stack([row[name] for row in rows]).to(device) for name in rows[0]}
    return arguments, [None if count < 0 else count for count in counts]
