"""Putting `Shards` under the networks of CogVideoX and HunyuanVideo.

diffusers 0.42 has no plan for context parallelism for either, and the obvious one is silently wrong
for CogVideoX: it joins text to each rank's tokens and attends to those alone. Here tokens are split
in front of the first block and gathered behind the last layer, and attention goes over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb

from pipeline.parallel.ulysses import Projected, Shards

Hook = Callable[..., Any]


def split_cogvideox(network: Any, shards: Shards) -> None:
    """Share a `CogVideoXTransformer3DModel` over ranks."""

    def split_positions(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if (rotary := kwargs.get("image_rotary_emb")) is not None:
            kwargs = kwargs | {"image_rotary_emb": tuple(shards.split(each, 0) for each in rotary)}
        return args, kwargs

    network.register_forward_pre_hook(split_positions, with_kwargs=True)
    _split_between(network, shards)
    for block in network.transformer_blocks:
        block.attn1.set_processor(CogVideoXJoint(shards))


def split_hunyuan_video(network: Any, shards: Shards) -> None:
    """Share a `HunyuanVideoTransformer3DModel` over ranks; its token refiner stays whole."""
    network.rope.register_forward_hook(
        lambda module, args, output: tuple(shards.split(each, 0) for each in output)
    )
    _split_between(network, shards)
    for block in (*network.transformer_blocks, *network.single_transformer_blocks):
        block.attn.set_processor(HunyuanVideoJoint(shards))


def _split_between(network: Any, shards: Shards) -> None:
    """Split tokens in front of the first block, gather them behind the last layer."""

    def split(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        whole = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        shards.tokens = whole.shape[1]
        part = shards.split(whole, 1)
        if "hidden_states" in kwargs:
            return args, kwargs | {"hidden_states": part}
        return (part, *args[1:]), kwargs

    network.transformer_blocks[0].register_forward_pre_hook(split, with_kwargs=True)
    network.proj_out.register_forward_hook(lambda module, args, output: shards.gather(output, 1))


class _Joint:
    """An attention processor that attends over all ranks' tokens.

    `_attention_backend` is what diffusers' `set_attention_backend` sets.
    """

    _attention_backend: Any = None

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def _attend(
        self, video: Projected, text: Projected, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self._shards.attend(video, text, mask, self._attention_backend)
        one, other = (out.flatten(2, 3).to(video[0].dtype) for out in outputs)
        return one, other


class CogVideoXJoint(_Joint):
    """Self-attention of CogVideoX: text and video through the same layers, video with positions."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs of this rank's video tokens and of all text tokens."""
        layers = (attn.to_q, attn.to_k, attn.to_v, attn.norm_q, attn.norm_k)
        outputs = self._attend(
            _project(attn.heads, hidden_states, *layers, rotary=image_rotary_emb),
            _project(attn.heads, encoder_hidden_states, *layers),
            attention_mask,
        )
        video, text = (attn.to_out[1](attn.to_out[0](out)) for out in outputs)
        return video, text


class HunyuanVideoJoint(_Joint):
    """Attention of HunyuanVideo, in blocks with layers of their own for text and in those without.

    A single-stream block has neither layers for text nor a projection of the output.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs of this rank's video tokens and of all text tokens."""
        layers = for_text = (attn.to_q, attn.to_k, attn.to_v, attn.norm_q, attn.norm_k)
        if attn.add_q_proj is not None:
            for_text = (
                attn.add_q_proj,
                attn.add_k_proj,
                attn.add_v_proj,
                attn.norm_added_q,
                attn.norm_added_k,
            )
        video, text = self._attend(
            _project(attn.heads, hidden_states, *layers, rotary=image_rotary_emb),
            _project(attn.heads, encoder_hidden_states, *for_text),
            attention_mask,
        )
        if getattr(attn, "to_out", None) is not None:
            video = attn.to_out[1](attn.to_out[0](video))
        if getattr(attn, "to_add_out", None) is not None:
            text = attn.to_add_out(text)
        return video, text


def _project(
    heads: int,
    tokens: torch.Tensor,
    to_q: Any,
    to_k: Any,
    to_v: Any,
    norm_q: Any,
    norm_k: Any,
    rotary: Any = None,
) -> Projected:
    """Tokens [rows, tokens, channels] to query, key and value."""
    query, key, value = (layer(tokens).unflatten(2, (heads, -1)) for layer in (to_q, to_k, to_v))
    query = query if norm_q is None else norm_q(query)
    key = key if norm_k is None else norm_k(key)
    if rotary is not None:
        query, key = (apply_rotary_emb(each, rotary, sequence_dim=1) for each in (query, key))
    return query, key, value
