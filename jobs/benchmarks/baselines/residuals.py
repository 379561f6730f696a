"""Reuse of what a network's blocks add to the tokens, as TeaCache and MagCache do it."""

from __future__ import annotations

import torch

from sencache import Family
from sencache.extension import BlockStack, ResidualReuse


def residual_reuse(network: torch.nn.Module, family: Family) -> ResidualReuse:
    """The reuse with its hooks on the blocks; releasing it removes them.

    Raises:
        ValueError: The residual of the blocks cannot be reused (:class:`BlockStack`).
    """
    stack = BlockStack(network, family)
    stack.attach()
    return ResidualReuse(stack)
