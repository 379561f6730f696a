"""Reuse of what a network's blocks add to the tokens, as TeaCache and MagCache do it."""

from __future__ import annotations

import torch

from sencache.families.base import Family
from sencache.reuse.base import ResidualReuse
from sencache.reuse.residual import BlockStack


def residual_reuse(network: torch.nn.Module, family: Family) -> ResidualReuse:
    """The reuse, its hooks on the blocks; releasing it takes them off.

    Raises:
        ValueError: The blocks' residual cannot be had (:class:`BlockStack`).
    """
    stack = BlockStack(network, family)
    stack.attach()
    return ResidualReuse(stack)
