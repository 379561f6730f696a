"""Classifier-free guidance shared by two halves of a group's ranks (CFG-parallel).

The conditional and the unconditional output of a step do not need each other. So one half of the
ranks computes the one, the other half the other, and they exchange what came out: one all-gather of
the network's output per computed step, and nothing between the halves in any attention. Within a
half the tokens can be split further, by whatever `layout` offers.

Two hooks, one on either side of the cache:

    pipeline  ->  JoinBranches  ->  cache (sencache)  ->  ShareRows  ->  the network, or its split

The cache sees both branches' whole outputs in every rank, so it decides as in one rank: the same
everywhere, and a step that it reuses reaches neither the network nor the exchange. `ShareRows`
knows nothing of guidance: each half of the ranks takes one half of the rows that are to be
computed. CogVideoX and LTX-Video batch the unconditional rows before the conditional ones, so those
are the halves. Wan calls its network twice per step; `JoinBranches` makes one such batch of both
calls. Without guidance there is one branch only: the clips of a batch are then what is shared out,
and a single clip is computed by both halves.

xfuser 0.7 has the same split inside pipelines of its own: for CogVideoX, and of Wan for
image-to-video alone, with no place for a cache between the two calls. Its transformers, which
`pipeline.parallel.xfuser` runs under diffusers' pipelines, do not know of guidance.

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
    """Have the ranks of a process group compute a network's rows between them.

    Put it on above what splits tokens and beneath any cache.

    Args:
        network: A diffusers transformer.
        group: This rank, and its counterpart in the other half.
    """
    hook = ShareRows(family_of(network), group)
    HookRegistry.check_if_exists_or_initialize(network).register_hook(hook, f"{NAME}_rows")


@contextlib.contextmanager
def joined_branches(pipe: Any) -> Iterator[None]:
    """Make one call per step of the two that a pipeline's guidance makes; above any cache.

    Changes nothing where the pipeline makes one call itself.
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
    """Computes this rank's part of the rows of each call, and gathers the others'."""

    def __init__(self, family: Family, group: Any) -> None:
        super().__init__()
        self._family, self._group = family, group

    def new_forward(self, network: torch.nn.Module, **arguments: Any) -> Any:
        """Stand in for the network's forward; its arguments come by name, as in every pipeline."""
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
    """Puts the conditional call of a step off until the unconditional one comes."""

    _is_stateful = True  # so that diffusers tells it the cache context

    def __init__(self, family: Family, pipe: Any) -> None:
        super().__init__()
        self.state_manager = StateManager(BaseState)
        self._family, self._pipe = family, pipe
        self._waiting: tuple[Mapping[str, Any], torch.Tensor] | None = None

    def new_forward(self, network: Any, **arguments: Any) -> Any:
        """Stand in for the network's forward.

        Returns:
            Of the conditional call a tensor without elements, which no arithmetic takes; it becomes
            the output when the unconditional call returns.
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
        """Forget a call that waits; diffusers asks for it when a pipeline's call ends."""
        self._waiting = None
        self.state_manager.reset()
        return network


def _of_rows(
    arguments: Mapping[str, Any], family: Family, first: int, last: int
) -> dict[str, torch.Tensor]:
    """What differs in a call for some of its rows."""
    rows = arguments[family.latents].shape[0]
    chosen = {}
    for name, value, items in _per_row(arguments, family, rows):
        chosen[name] = value[first * items : last * items]
    return chosen


def _joined(
    uncond: Mapping[str, Any], cond: Mapping[str, Any], family: Family
) -> dict[str, torch.Tensor]:
    """What differs in a call for the rows of both branches, the unconditional ones first."""
    rows = uncond[family.latents].shape[0]
    return {
        name: torch.cat([value, cond[name]]) for name, value, _ in _per_row(uncond, family, rows)
    }


def _per_row(
    arguments: Mapping[str, Any], family: Family, rows: int
) -> Iterator[tuple[str, torch.Tensor, int]]:
    """Arguments that hold something of each row, and how many items of each."""
    for name in family.per_row:
        value = arguments.get(name)
        if isinstance(value, torch.Tensor) and value.ndim:
            items, left_over = divmod(value.shape[0], rows)
            if items and not left_over:
                yield name, value, items
