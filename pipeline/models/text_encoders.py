"""Texts to embeddings apart from the network: what encoders give, as bytes and back.

The tensors of one request, one row each, travel as safetensors. A text that cannot be encoded
travels as its error, and raises where its clip would be made. Written against diffusers 0.42.
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
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.requests.sample_request import SampleRequest

EMBEDDINGS: dict[str, tuple[str, ...]] = {
    "wan": ("prompt_embeds", "negative_prompt_embeds"),
    "cogvideox": ("prompt_embeds", "negative_prompt_embeds"),
    "ltx": (
        "prompt_embeds",
        "prompt_attention_mask",
        "negative_prompt_embeds",
        "negative_prompt_attention_mask",
    ),
    "hunyuan_video": ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask"),
}
"""Per family, what `encode_prompt` returns, under the names that the pipeline's call takes."""

_TENSORS, _ERROR = b"T", b"E"


class TextError(RuntimeError):
    """A text could not be encoded; the sample fails with the encoder's own words."""


@torch.no_grad()
def encode_texts(pipe: Any, spec: ModelSpec, requests: Sequence[SampleRequest]) -> list[bytes]:
    """Encode the texts of a batch as its pipeline would.

    Args:
        pipe: A pipeline that has its text encoders; it needs no more.
        spec: Of the model.
        requests: A batch that agrees in everything but texts and seeds.

    Returns:
        Per request its tensors. A text of 512 tokens in a space of 4,096 takes 4 MB in bfloat16,
        its negative as much again.
    """
    first = requests[0]
    arguments: dict[str, Any] = dict(text_arguments(spec, requests))
    if spec.family != "hunyuan_video":  # it has no unconditional branch
        arguments["do_classifier_free_guidance"] = "negative_prompt" in arguments
    given = pipe.encode_prompt(
        **arguments, max_sequence_length=first.max_sequence_length, device=pipe.device
    )
    tensors = {
        name: tensor.cpu()
        for name, tensor in zip(EMBEDDINGS[spec.family], given, strict=True)
        if tensor is not None
    }
    return [
        _TENSORS + save({name: tensor[row].contiguous() for name, tensor in tensors.items()})
        for row in range(len(requests))
    ]


def load_text_encoder(
    model: ResolvedModel, device: str, dtype: str, threads: int
) -> Callable[[Sequence[SampleRequest]], list[bytes]]:
    """Load what encodes texts and nothing else; a picklable factory's target.

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
    """What travels instead of tensors."""
    return _ERROR + f"{type(error).__name__}: {error}".encode()


def embedded_arguments(requests: Sequence[SampleRequest], device: torch.device) -> dict[str, Any]:
    """The encoded texts of a batch as arguments of a pipeline's call.

    Raises:
        TextError: One of them could not be encoded.
    """
    rows = []
    for request in requests:
        if request.texts.startswith(_ERROR):
            raise TextError(request.texts[1:].decode())
        rows.append(load(request.texts[1:]))
    return {name: torch.stack([row[name] for row in rows]).to(device) for name in rows[0]}
