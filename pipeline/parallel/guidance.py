"""A guided clip split over two halves of a group's ranks (CFG-parallel), a branch for each.

The conditional and the unconditional output of a step do not depend on each other. One half of the
ranks computes the first and the other half the second, and they exchange the results: one
all-gather of the network's output per computed step, and nothing between the halves in attention.
Within a half the tokens can be split further, as the layout says.

Two hooks, one on either side of the cache:

    pipeline  ->  JoinBranches  ->  cache (sencache)  ->  ShareRows  ->  the network, or its split

Every rank's cache sees the whole outputs of both branches, so all ranks decide as one rank would,
and a step that is reused reaches neither the network nor the exchange. `ShareRows` knows nothing of
guidance: each half of the ranks computes one half of the rows. CogVideoX and LTX-Video batch the
unconditional rows before the conditional ones, so those are the halves. Wan calls its network twice
per step; `JoinBranches` makes one such batch of both calls. Without guidance there is one branch:
the ranks then share the clips of a batch, and both halves compute a single clip.

xfuser 0.7 has the same split, but only in pipelines of its own (CogVideoX, and Wan for
image-to-video), with no place for a cache between the two calls. Its transformers, which
`pipeline.parallel.xfuser` runs under diffusers' pipelines, know nothing of guidance.

Runs inside ranks, after `torch.distributed` was initialised. Written against the hooks of diffusers
0.42.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - the usual name
from diffusers.hooks.hooks import BaseState, HookRegistry, ModelHook, StateManager
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from pipeline.parallel.ulysses import gather_shares
from sencache import Family, family_of, networks_of

BOTH = "cond_uncond"
"""The cache context in which pipelines that batch both branches call their network."""

NAME = "cfg_parallel"


def share_rows(network: torch.nn.Module, group: Any) -> None:
    """Have the ranks of a process group share the rows of a network's calls.

    Call it after the tokens are split and before a cache is applied.

    Args:
        network: A diffusers transformer.
        group: Process group of this rank and its counterpart in the other half.
    """
    hook = ShareRows(family_of(network), group)
    HookRegistry.check_if_exists_or_initialize(network).register_hook(hook, f"{NAME}_rows")


@contextlib.contextmanager
def joined_branches(pipe: Any) -> Iterator[None]:
    """Join the two calls per step that a pipeline's guidance makes; enter it after the cache.

    Changes nothing if the pipeline makes one call per step.
    """
    networks = list(networks_of(pipe).values())
    for network in networks:
        hook = JoinBranches(family_of(network), pipe)
        HookRegistry.check_if_exists_or_initialize(network).register_hook(hook, NAME)
    try:
        yield
    finally:
        for network in networks:
            HookRegistry.check_if_exists_or_initialize(network).remove_hook(NAME, recurse=False)


class ShareRows(ModelHook):
    """Computes this rank's part of the rows of each call, and gathers the other parts."""

    def __init__(self, family: Family, group: Any) -> None:
        super().__init__()
        self._family, self._group = family, group

    def new_forward(self, network: torch.nn.Module, **arguments: Any) -> Any:
        """Replaces the network's forward; pipelines pass all its arguments by name."""
        rows, ranks = arguments[self._family.latents].shape[0], dist.get_world_size(self._group)
        forward = self.fn_ref.original_forward
        if rows < ranks:
            return forward(**arguments)
        each = -(-rows // ranks)
        first = dist.get_rank(self._group) * each
        answer = forward(**arguments | _of_rows(arguments, self._family, first, first + each))
        part: torch.Tensor = answer[0]
        filled = F.pad(part, (0, 0) * (part.ndim - 1) + (0, each - part.shape[0]))
        whole = gather_shares(filled, 0, self._group)[:rows]
        return (whole,) if isinstance(answer, tuple) else Transformer2DModelOutput(sample=whole)


class JoinBranches(ModelHook):
    """Delays the conditional call of a step until the unconditional one comes."""

    _is_stateful = True  # so that diffusers tells it the cache context

    def __init__(self, family: Family, pipe: Any) -> None:
        super().__init__()
        self.state_manager = StateManager(BaseState)
        self._family, self._pipe = family, pipe
        self._waiting: tuple[Mapping[str, Any], torch.Tensor] | None = None

    def new_forward(self, network: Any, **arguments: Any) -> Any:
        """Replaces the network's forward.

        Returns:
            For the conditional call, a tensor without elements, which any arithmetic refuses; it
            becomes the output when the unconditional call returns.
        """
        context, forward = self.state_manager._context, self.fn_ref.original_forward
        name = "" if context is None else context.name
        if name == "cond" and self._pipe.do_classifier_free_guidance:
            later = arguments[self._family.latents].new_empty(0)
            self._waiting = arguments, later
            return (later,)
        if name != "uncond" or self._waiting is None:
            return forward(**arguments)
        (cond, later), self._waiting = self._waiting, None
        with network.cache_context(**vars(context) | {"name": BOTH}):
            output = forward(**arguments | _joined(arguments, cond, self._family))[0]
        half = output.shape[0] // 2
        later.set_(output[half:])
        return (output[:half],)

    def reset_state(self, network: torch.nn.Module) -> torch.nn.Module:
        """Forget a delayed call; diffusers calls this when a pipeline's call ends."""
        self._waiting = None
        self.state_manager.reset()
        return network


def _of_rows(
    arguments: Mapping[str, Any], family: Family, first: int, last: int
) -> dict[str, torch.Tensor]:
    """The arguments of a call for some of its rows, where they differ."""
    rows = arguments[family.latents].shape[0]
    chosen = {}
    for name, value, items in _per_row(arguments, family, rows):
        chosen[name] = value[first * items : last * items]
    return chosen


def _joined(
    uncond: Mapping[str, Any], cond: Mapping[str, Any], family: Family
) -> dict[str, torch.Tensor]:
    """The arguments of a call for the rows of both branches, the unconditional rows first."""
    rows = uncond[family.latents].shape[0]
    return {
        name: torch.cat([value, cond[name]]) for name, value, _ in _per_row(uncond, family, rows)
    }


def _per_row(
    arguments: Mapping[str, Any], family: Family, rows: int
) -> Iterator[tuple[str, torch.Tensor, int]]:
    """Arguments that hold items of each row, and how many items per row."""
    for name in family.per_row:
        value = arguments.get(name)
        if isinstance(value, torch.Tensor) and value.ndim:
            items, left_over = divmod(value.shape[0], rows)
            if items and not left_over:
                yield name, value, items
