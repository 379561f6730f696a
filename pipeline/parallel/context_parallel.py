"""Splitting a network's tokens over ranks with diffusers' context parallelism: Ulysses and ring.

diffusers' `enable_parallelism` (0.42) takes its device from the number of accelerators and so fails
where there is none; here the mesh and the device are given. Networks whose attention joins text and
video go to `pipeline.parallel.ulysses` instead. Runs inside ranks, after `torch.distributed` was
initialised.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - the usual name
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models._modeling_parallel import ParallelConfig
from diffusers.models.attention_dispatch import AttentionBackendName
from torch.distributed.device_mesh import DeviceMesh

from pipeline.errors import UserError
from pipeline.models.families.base import ModelFamily
from pipeline.parallel.layout import RING, ULYSSES, ParallelLayout
from pipeline.parallel.ulysses import Shards, gather_shares, split_joint_attention
from sencache import family_of

GATHERED_AT = "proj_out"
"""Last layer of the networks; behind it every rank has all tokens again."""

RING_ATTENTION = "_native_flash"
"""torch's flash attention returns the log-sum-exp that a ring needs; its SDPA does not."""


def split_network(
    network: torch.nn.Module,
    family: ModelFamily,
    layout: ParallelLayout,
    mesh: DeviceMesh,
    device: torch.device,
) -> None:
    """Have the ranks that share a clip's tokens run one network together.

    Call it before a cache is put on the network: the cache then sees whole latents on every rank.

    Args:
        network: A diffusers transformer.
        family: Of the model.
        layout: Degrees; `choose_layout` has checked that they are offered.
        mesh: The ranks by these degrees.
        device: Of this rank.

    Raises:
        UserError: Heads that cannot be shared.
    """
    if family.joint is not None:
        split_joint_attention(network, family.joint, Shards(mesh[ULYSSES].get_group()))
        return
    _check_heads(network, layout)
    context = ContextParallelConfig(ring_degree=layout.ring, ulysses_degree=layout.ulysses)
    config = ParallelConfig(context_parallel_config=context)
    config.setup(dist.get_rank(), layout.size, device, mesh=mesh[RING, ULYSSES])
    settled: Any = network
    (blocks,) = family_of(network).blocks
    for block in getattr(settled, blocks):
        processor = block.attn1.processor  # self-attention; text is whole on every rank
        processor._parallel_config = config
        if layout.ring > 1 and processor._attention_backend is None:
            processor._attention_backend = AttentionBackendName(RING_ATTENTION)
    settled._parallel_config = config
    whole = family.context_parallel_plan(network)
    plan = {name: part for name, part in whole.items() if name != GATHERED_AT}
    shares = _Shares(context, layout, family)
    network.register_forward_pre_hook(shares.settle, with_kwargs=True)
    apply_context_parallel(network, context, plan)
    settled.get_submodule(GATHERED_AT).register_forward_hook(shares.gather)


class _Shares:
    """Handles tokens and heads that do not divide by the ranks.

    It turns diffusers' modes for unequal shares on for those clips only, because they cost an
    exchange of sizes per attention. It gathers the tokens itself: those modes gather with an
    operation that gloo does not have.
    """

    def __init__(self, context: Any, layout: ParallelLayout, family: ModelFamily) -> None:
        self._context, self._layout, self._family = context, layout, family
        self._tokens = 0

    def settle(self, network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Choose the mode before each forward."""
        latents = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        settings, layout = network.config, self._layout
        tokens = self._family.tokens(network, latents.shape)
        layout.check_even(tokens)
        self._tokens = tokens
        uneven = bool(tokens % layout.sequence or settings.num_attention_heads % layout.ulysses)
        self._context.ulysses_anything = uneven and layout.ring == 1
        self._context.ring_anything = uneven and layout.ring > 1

    def gather(self, module: Any, args: Any, part: torch.Tensor) -> torch.Tensor:
        """All ranks' tokens, [rows, tokens, channels], from parts as `tensor_split` cuts them."""
        size = self._layout.sequence
        most, longer = -(-self._tokens // size), self._tokens % size
        filled = F.pad(part, (0, 0, 0, most - part.shape[1]))
        whole = gather_shares(filled, 1, self._context._flattened_mesh.get_group())
        if not longer:
            return whole
        parts = torch.split(whole, most, dim=1)
        return torch.cat([*parts[:longer], *(each[:, :-1] for each in parts[longer:])], dim=1)


def _check_heads(network: Any, layout: ParallelLayout) -> None:
    """Refuse a Ulysses degree that would leave the last rank without heads.

    Raises:
        UserError: The heads cannot be shared so.
    """
    heads, ranks = network.config.num_attention_heads, layout.ulysses

    def fits(degree: int) -> bool:
        each = -(-heads // degree)
        even = heads % degree == 0
        return even or (layout.ring == 1 and each * degree - heads < each)

    if not fits(ranks):
        fitting = [str(degree) for degree in range(1, heads + 1) if fits(degree)]
        raise UserError(
            f"--parallel.degree {layout.size} cannot share the {heads} attention heads of "
            f"{type(network).__name__} over {ranks} ranks: use a Ulysses degree of "
            f"{', '.join(fitting)}"
        )
