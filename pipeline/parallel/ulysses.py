"""Ulysses for networks whose attention joins text and video tokens: CogVideoX and HunyuanVideo.

The video tokens are shared out over the ranks, the few text tokens are whole on every rank. Before
an attention the ranks exchange video tokens for heads, so each attends with some heads over the
whole sequence, text and mask included; after it they exchange back. That is exact whatever the
lengths: tokens and heads that do not divide are filled up for the exchange only.

Ulysses: Jacobs et al., arXiv 2309.14509; the joint form is that of USP, arXiv 2405.07719.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - the usual name
from diffusers.models.attention_dispatch import dispatch_attention_fn

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
        """This rank's part along a dimension, filled up with zeros so that all are of one size."""
        each = -(-whole.shape[dim] // self.size)
        missing = each * self.size - whole.shape[dim]
        if missing:
            shape = list(whole.shape)
            shape[dim] = missing
            whole = torch.cat([whole, whole.new_zeros(shape)], dim)
        return whole.narrow(dim, dist.get_rank(self.group) * each, each)

    def gather(self, part: torch.Tensor, dim: int) -> torch.Tensor:
        """The whole of all ranks' parts, without what filled them up."""
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
            torch.cat([mine, self._own_heads(words)], dim=1)
            for mine, words in zip(self._heads_for_tokens(video), text, strict=True)
        ]
        out = dispatch_attention_fn(*joined, attn_mask=mask, backend=backend)
        own_video, own_text = out.split([self.tokens, length], dim=1)
        whole_text = gather_shares(own_text, 2, self.group)
        return self._tokens_for_heads(own_video)[:, :, :heads], whole_text[:, :, :heads]

    def _own_heads(self, whole: torch.Tensor) -> torch.Tensor:
        return self.split(whole, 2)

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
        """Block i of the first dimension to rank i; block i of the result came from it."""
        got = torch.empty_like(sent, memory_format=torch.contiguous_format)
        dist.all_to_all_single(got, sent.contiguous(), group=self.group)
        return got


def gather_shares(part: torch.Tensor, dim: int, group: Any) -> torch.Tensor:
    """All ranks' parts, of one size, one behind the other along a dimension."""
    size = dist.get_world_size(group)
    parts = part.new_empty(size * part.shape[0], *part.shape[1:])
    dist.all_gather_into_tensor(parts, part.contiguous(), group=group)
    return torch.cat(parts.chunk(size), dim)
