"""Encoding texts apart from the network: embeddings to bytes, and bytes to call arguments.

The tensors of one request travel as safetensors. A text that cannot be encoded travels as its
error, which is raised where its clip would be made. Written against diffusers 0.42.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from safetensors.torch import load, save

from pipeline.models.call import text_arguments
from pipeline.models.load import load_pipeline
from pipeline.models.prompt_length import token_counts
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.requests.sample_request import SampleRequest

_NEGATIVE = "negative_"
_TENSORS, _ERROR = b"T", b"E"
_COUNT = "prompt_tokens"
"""Name under which the number of a prompt's tokens travels with its tensors."""


class TextError(RuntimeError):
    """A text could not be encoded; the sample fails with the encoder's message."""


class PromptEncoder:
    """Encodes the prompts of a pipeline's batches, and each negative prompt once.

    Nearly all clips of a run share one negative prompt. A pipeline encodes it as it encodes a
    prompt, so its embeddings are those of the prompt of the same text. They are kept for classes
    whose `encode_prompt` takes them back.
    """

    KEPT = 8
    """Most batches whose negative prompts are kept; a text of 512 tokens of 4,096 channels takes
    4 MB in bfloat16."""

    def __init__(self, pipe: Any, spec: ModelSpec) -> None:
        """Begin with none.

        Args:
            pipe: A diffusers pipeline; of its parts only the text encoders are used.
            spec: Of the model.
        """
        self._pipe, self._spec = pipe, spec
        self._negative_names = _negative_names(pipe, spec)
        self._kept: dict[tuple[tuple[str, ...], int], dict[str, torch.Tensor]] = {}

    def arguments(self, requests: Sequence[SampleRequest]) -> dict[str, Any]:
        """The texts of a batch as arguments of the pipeline's call.

        Returns:
            Embeddings where negative prompts are read and can be kept, else the texts.

        Raises:
            ValueError: A negative prompt for a model that would not read it.
        """
        texts = text_arguments(self._spec, requests)
        if "negative_prompt" in texts and self._negative_names:
            return self.embeddings(requests)
        return dict(texts)

    @torch.no_grad()
    def embeddings(self, requests: Sequence[SampleRequest]) -> dict[str, Any]:
        """The encoded texts of a batch, as its pipeline would encode them.

        Args:
            requests: A batch that agrees in everything but texts and seeds.

        Returns:
            Tensors by the names of the call's arguments, one item per request in each.
        """
        arguments: dict[str, Any] = dict(text_arguments(self._spec, requests))
        length = requests[0].max_sequence_length
        if not self._spec.pipeline.distilled_guidance:
            arguments["do_classifier_free_guidance"] = "negative_prompt" in arguments
        if self._negative_names and "negative_prompt" in arguments:
            arguments |= self._negatives(tuple(arguments.pop("negative_prompt")), length)
        return self._encoded(length, arguments)

    def token_counts(self, requests: Sequence[SampleRequest]) -> Sequence[int | None]:
        """Tokens of each prompt before any are cut off; None if they cannot be counted."""
        return token_counts(self._pipe, [request.prompt for request in requests])

    def release(self) -> None:
        """Drop what is kept, and the pipeline."""
        self._kept.clear()
        self._pipe = None

    def _negatives(self, texts: tuple[str, ...], length: int) -> dict[str, torch.Tensor]:
        """The embeddings of the negative prompts of a batch.

        They are kept for the batch and not for each text, because rounding depends on the number of
        rows: so they have the bits that the pipeline would compute.
        """
        if (kept := self._kept.get((texts, length))) is not None:
            return kept
        encoded = self._encoded(
            length, {"prompt": list(texts), "do_classifier_free_guidance": False}
        )
        made = {name: encoded[name.removeprefix(_NEGATIVE)] for name in self._negative_names}
        if len(self._kept) >= self.KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[texts, length] = made
        return made

    def _encoded(self, length: int, arguments: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What `encode_prompt` returns, by its names in the pipeline's call."""
        given = self._pipe.encode_prompt(
            **arguments, max_sequence_length=length, device=self._pipe._execution_device
        )
        named = zip(self._spec.pipeline.text_embeddings, given, strict=True)
        return {name: tensor for name, tensor in named if tensor is not None}


def _negative_names(pipe: Any, spec: ModelSpec) -> tuple[str, ...]:
    """Arguments of a pipeline for encoded negative prompts; none where it does not take them."""
    names = tuple(name for name in spec.pipeline.text_embeddings if name.startswith(_NEGATIVE))
    if not hasattr(pipe, "encode_prompt"):
        return ()
    encode = inspect.signature(pipe.encode_prompt).parameters
    call = inspect.signature(type(pipe).__call__).parameters
    takes = all(name in encode and name in call for name in spec.pipeline.text_embeddings)
    return names if takes and "do_classifier_free_guidance" in encode else ()


def encode_texts(encoder: PromptEncoder, requests: Sequence[SampleRequest]) -> list[bytes]:
    """Encode the texts of a batch to bytes.

    Args:
        encoder: Of a pipeline with its text encoders.
        requests: A batch that agrees in everything but texts and seeds.

    Returns:
        The tensors of each request. A text of 512 tokens of 4,096 channels takes 4 MB in bfloat16,
        and its negative prompt the same again.
    """
    tensors = {name: tensor.cpu() for name, tensor in encoder.embeddings(requests).items()}
    counts = encoder.token_counts(requests)
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
    return functools.partial(encode_texts, PromptEncoder(pipe, model.spec))


def failed_text(error: Exception) -> bytes:
    """The error of a text that could not be encoded, in place of its tensors."""
    return _ERROR + f"{type(error).__name__}: {error}".encode()


def is_encoded(request: SampleRequest) -> bool:
    """Whether a request brings its texts as tensors; not if they could not be encoded."""
    return request.texts.startswith(_TENSORS)


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
