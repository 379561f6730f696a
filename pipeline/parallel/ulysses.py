"""Ulysses for networks whose attention joins text and video tokens: CogVideoX and HunyuanVideo.

The video tokens are shared out over the ranks; the few text tokens are whole on every rank. Before
an attention the ranks exchange video tokens for heads, so each attends with some heads over the
whole sequence, text and mask included; after it they exchange back. That is exact for all lengths:
tokens and heads that do not divide are padded for the exchange only.

diffusers 0.42 has no plan for these networks, and the obvious one is silently wrong for CogVideoX:
it joins the text to each rank's tokens and attends to those alone.

Ulysses: Jacobs et al., arXiv 2309.14509; the joint form is that of USP, arXiv 2405.07719.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - the usual name
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb

from pipeline.models.families.base import AttentionLayers, JointAttention
from sencache import family_of

Projected = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Query, key and value, each of shape [rows, tokens, heads, channels]."""


@dataclass
class Shards:
    """The share of a clip's tokens that this rank works on.

    Attributes:
        group: Process group of the ranks.
        tokens: Video tokens of the clip, all ranks together.
    """

    group: Any
    tokens: int = 0

    @property
    def size(self) -> int:
        """Ranks."""
        return dist.get_world_size(self.group)

    def split(self, whole: torch.Tensor, dim: int) -> torch.Tensor:
        """This rank's part along a dimension, padded with zeros so that all parts are equal."""
        each = -(-whole.shape[dim] // self.size)
        missing = each * self.size - whole.shape[dim]
        if missing:
            shape = list(whole.shape)
            shape[dim] = missing
            whole = torch.cat([whole, whole.new_zeros(shape)], dim)
        return whole.narrow(dim, dist.get_rank(self.group) * each, each)

    def gather(self, part: torch.Tensor, dim: int) -> torch.Tensor:
        """The whole of all ranks' parts, without the padding."""
        return gather_shares(part, dim, self.group).narrow(dim, 0, self.tokens)

    def attend(
        self,
        video: Projected,
        text: Projected,
        mask: torch.Tensor | None = None,
        backend: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Joint attention over the tokens of all ranks.

        Args:
            video: Of this rank's tokens.
            text: Of all text tokens; the same on every rank.
            mask: Which tokens may be attended to, video first, broadcastable to
                [rows, heads, queries, keys].
            backend: Name of a diffusers attention backend; None for the default.

        Returns:
            Outputs of this rank's video tokens and of all text tokens,
            [rows, tokens, heads, channels].
        """
        heads, length = text[0].shape[2], text[0].shape[1]
        joined = [
            torch.cat([mine, self.split(words, 2)], dim=1)
            for mine, words in zip(self._heads_for_tokens(video), text, strict=True)
        ]
        out = dispatch_attention_fn(*joined, attn_mask=mask, backend=backend)
        own_video, own_text = out.split([self.tokens, length], dim=1)
        whole_text = gather_shares(own_text, 2, self.group)
        return self._tokens_for_heads(own_video)[:, :, :heads], whole_text[:, :, :heads]

    def _heads_for_tokens(self, parts: Projected) -> torch.Tensor:
        """[rows, share, heads, c] x 3 to [3, rows, tokens, heads / ranks, c], in one exchange."""
        stacked = torch.stack(parts)
        heads = -(-stacked.shape[3] // self.size)
        stacked = F.pad(stacked, (0, 0, 0, heads * self.size - stacked.shape[3]))
        sent = stacked.reshape(*stacked.shape[:3], self.size, heads, -1).permute(3, 0, 1, 2, 4, 5)
        got = self._exchange(sent).permute(1, 2, 0, 3, 4, 5)
        return got.flatten(2, 3)[:, :, : self.tokens]

    def _tokens_for_heads(self, whole: torch.Tensor) -> torch.Tensor:
        """[rows, tokens, heads / ranks, c] to [rows, share, heads, c]."""
        share = -(-self.tokens // self.size)
        whole = F.pad(whole, (0, 0, 0, 0, 0, share * self.size - self.tokens))
        sent = whole.reshape(whole.shape[0], self.size, share, *whole.shape[2:]).transpose(0, 1)
        return self._exchange(sent).permute(1, 2, 0, 3, 4).flatten(2, 3)

    def _exchange(self, sent: torch.Tensor) -> torch.Tensor:
        """Send block i of the first dimension to rank i, and receive block i from it."""
        got = torch.empty_like(sent, memory_format=torch.contiguous_format)
        dist.all_to_all_single(got, sent.contiguous(), group=self.group)
        return got


def gather_shares(part: torch.Tensor, dim: int, group: Any) -> torch.Tensor:
    """Concatenate all ranks' parts, of equal size, along a dimension."""
    size = dist.get_world_size(group)
    parts = part.new_empty(size * part.shape[0], *part.shape[1:])
    dist.all_gather_into_tensor(parts, part.contiguous(), group=group)
    return torch.cat(parts.chunk(size), dim)


def split_joint_attention(network: Any, joint: JointAttention, shards: Shards) -> None:
    """Share a network over ranks.

    Tokens are split in front of the first block and gathered behind the last layer.

    Args:
        network: A diffusers transformer.
        joint: What its family says of its attention.
        shards: The share of this rank.
    """

    def split(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        whole = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        shards.tokens = whole.shape[1]
        part = shards.split(whole, 1)
        if "hidden_states" in kwargs:
            return args, kwargs | {"hidden_states": part}
        return (part, *args[1:]), kwargs

    joint.split_positions(network, lambda whole: shards.split(whole, 0))
    network.transformer_blocks[0].register_forward_pre_hook(split, with_kwargs=True)
    network.proj_out.register_forward_hook(lambda module, args, output: shards.gather(output, 1))
    for blocks in family_of(network).blocks:
        for block in getattr(network, blocks):
            getattr(block, joint.attention).set_processor(JointProcessor(joint, shards))


class JointProcessor:
    """An attention processor of diffusers that attends over all ranks' tokens."""

    _attention_backend: Any = None  # set by diffusers' `set_attention_backend`

    def __init__(self, joint: JointAttention, shards: Shards) -> None:
        self._joint, self._shards = joint, shards

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs of this rank's video tokens and of all text tokens."""
        for_video, for_text = self._joint.layers(attn)
        query, key, value = _project(attn.heads, hidden_states, for_video)
        if image_rotary_emb is not None:
            query, key = (
                apply_rotary_emb(each, image_rotary_emb, sequence_dim=1) for each in (query, key)
            )
        outputs = self._shards.attend(
            (query, key, value),
            _project(attn.heads, encoder_hidden_states, for_text),
            attention_mask,
            self._attention_backend,
        )
        video, text = (out.flatten(2, 3).to(query.dtype) for out in outputs)
        return self._joint.project_out(attn, video, text)


def _project(heads: int, tokens: torch.Tensor, layers: AttentionLayers) -> Projected:
    """Tokens of shape [rows, tokens, channels] to query, key and value."""
    *projections, norm_q, norm_k = layers
    query, key, value = (layer(tokens).unflatten(2, (heads, -1)) for layer in projections)
    query = query if norm_q is None else norm_q(query)
    key = key if norm_k is None else norm_k(key)
    return query, key, value
