"""TeaCache's signal: the input of the first block, modulated by the timestep.

The tensor differs by model, as in TeaCache's public scripts (ali-vilab/TeaCache):
Wan and CogVideoX take the time embedding alone; LTX, HunyuanVideo and Mochi take the first block's
normed tokens after scale and shift. Written against the blocks of diffusers 0.42.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers.utils.torch_utils import unwrap_module

from jobs.benchmarks.baselines.base import UnsupportedError
from sencache import Family
from sencache.extension import Call, Forward

Inputs = Mapping[str, Any]


class _SeenError(Exception):
    """Ends a forward at its first block."""


def _time_embedding(_block: Any, inputs: Inputs) -> torch.Tensor:
    embedding: torch.Tensor = inputs["temb"]
    return embedding


def _first_of_norm(block: Any, inputs: Inputs) -> torch.Tensor:
    modulated: torch.Tensor = block.norm1(inputs["hidden_states"], emb=inputs["temb"])[0]
    return modulated


def _ltx(block: Any, inputs: Inputs) -> torch.Tensor:
    tokens, temb = inputs["hidden_states"], inputs["temb"]
    parameters = len(block.scale_shift_table)
    table = block.scale_shift_table + temb.unflatten(-1, (parameters, -1))
    shift, scale = table[..., 0, :], table[..., 1, :]
    modulated: torch.Tensor = block.norm1(tokens) * (1 + scale) + shift
    return modulated


_MODULATED: Mapping[str, Callable[[Any, Inputs], torch.Tensor]] = {
    "WanTransformerBlock": _time_embedding,
    "CogVideoXBlock": _time_embedding,
    "LTXVideoTransformerBlock": _ltx,
    "HunyuanVideoTransformerBlock": _first_of_norm,
    "MochiTransformerBlock": _first_of_norm,
}


class ModulatedInput:
    """Runs a network up to its first block, which costs its embeddings, and reads the signal."""

    def __init__(self, network: torch.nn.Module, family: Family) -> None:
        """Find the first block.

        Raises:
            UnsupportedError: No signal is known for blocks of this kind.
        """
        names = family.blocks
        blocks = getattr(unwrap_module(network), names[0], None) if names else None
        if not blocks:
            raise UnsupportedError(f"the family {family.name!r} names no blocks")
        self._block = blocks[0]
        kind = type(self._block).__name__
        if kind not in _MODULATED:
            raise UnsupportedError(
                f"TeaCache's signal is not known for a {kind}; known: {', '.join(_MODULATED)}"
            )
        self._modulated = _MODULATED[kind]
        self._signature = inspect.signature(type(self._block).forward)

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        """The signal of a call, shape [rows, ...]."""
        seen: dict[str, Any] = {}

        def look(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.update(self._signature.bind(block, *args, **kwargs).arguments)
            raise _SeenError

        handle = self._block.register_forward_pre_hook(look, with_kwargs=True)
        try:
            with contextlib.suppress(_SeenError):
                forward(**call.arguments)
        finally:
            handle.remove()
        if not seen:
            raise RuntimeError("the network's forward did not go through its first block")
        return self._modulated(self._block, seen).detach()
