"""Splitting a network's tokens over ranks without xfuser.

Wan and LTX-Video go by diffusers' own context parallelism (Ulysses, ring, or both), CogVideoX and
HunyuanVideo by `pipeline.parallel.joint_attention`. `enable_parallelism` of diffusers 0.42 takes
its device from the number of accelerators and so cannot run where there is none; here the mesh and
the device are given. Runs inside ranks, after `torch.distributed` was initialised.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - the usual name
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models._modeling_parallel import (
    ContextParallelInput,
    ParallelConfig,
)
from diffusers.models.attention_dispatch import AttentionBackendName
from torch.distributed.device_mesh import DeviceMesh

from pipeline.errors import UserError
from pipeline.parallel.joint_attention import split_cogvideox, split_hunyuan_video
from pipeline.parallel.layout import ParallelLayout, wan_tokens
from pipeline.parallel.mesh import RING, ULYSSES
from pipeline.parallel.ulysses import Shards, gather_shares

JOINT = {"cogvideox": split_cogvideox, "hunyuan_video": split_hunyuan_video}

LTX_PLAN = {
    "": {
        "hidden_states": ContextParallelInput(split_dim=1, expected_dims=3),
        "timestep": ContextParallelInput(split_dim=1, expected_dims=2),  # per token, with an image
    },
    "rope": {
        0: ContextParallelInput(split_dim=1, expected_dims=3, split_output=True),
        1: ContextParallelInput(split_dim=1, expected_dims=3, split_output=True),
    },
}
"""diffusers' own plan splits the text too, and then fails where a mask comes with it. Text is short
and stays whole here; only self-attention is split, so every rank attends to all of it."""

GATHERED_AT = "proj_out"
"""Last layer of both networks: behind it every rank has all tokens again."""

RING_ATTENTION = "_native_flash"
"""Of what torch brings: a ring needs the logarithm of each softmax's sum, which SDPA keeps."""


def split_network(
    network: torch.nn.Module,
    family: str,
    layout: ParallelLayout,
    mesh: DeviceMesh,
    device: torch.device,
) -> None:
    """Have the ranks that share a clip's tokens run one network together.

    Put it on before any cache: the cache then sees whole latents on every rank.

    Args:
        network: A diffusers transformer.
        family: Its family as `sencache` names it.
        layout: Degrees; `choose_layout` has checked that they are offered.
        mesh: The ranks by these degrees.
        device: Of this rank.

    Raises:
        UserError: Heads that cannot be shared.
    """
    if family in JOINT:
        JOINT[family](network, Shards(mesh[ULYSSES].get_group()))
        return
    _check_heads(network, layout)
    context = ContextParallelConfig(ring_degree=layout.ring, ulysses_degree=layout.ulysses)
    config = ParallelConfig(context_parallel_config=context)
    config.setup(dist.get_rank(), layout.size, device, mesh=mesh[RING, ULYSSES])
    blocks: Any = network.blocks if family == "wan" else network.transformer_blocks
    for block in blocks:
        processor = block.attn1.processor  # self-attention; text is whole on every rank
        processor._parallel_config = config
        if layout.ring > 1 and processor._attention_backend is None:
            processor._attention_backend = AttentionBackendName(RING_ATTENTION)
    settled: Any = network
    settled._parallel_config = config
    plan = {name: part for name, part in settled._cp_plan.items() if name != GATHERED_AT}
    shares = _Shares(context, layout, family)
    network.register_forward_pre_hook(shares.settle, with_kwargs=True)
    apply_context_parallel(network, context, LTX_PLAN if family == "ltx" else plan)
    settled.get_submodule(GATHERED_AT).register_forward_hook(shares.gather)


class _Shares:
    """Knows before each forward whether the clip's tokens and heads divide.

    Where they do not, diffusers' modes for unequal shares are turned on. They cost an exchange of
    sizes per attention, so not otherwise. Their last step, the gathering, asks of the transport
    what gloo has not, so it is done here.
    """

    def __init__(self, context: Any, layout: ParallelLayout, family: str) -> None:
        self._context, self._layout, self._family = context, layout, family
        self._tokens = 0

    def settle(self, network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        latents = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        settings, layout = network.config, self._layout
        tokens = latents.shape[1]
        if self._family == "wan":
            tokens = wan_tokens(settings.patch_size, latents.shape)
        layout.check_even(tokens)
        self._tokens = tokens
        uneven = bool(tokens % layout.sequence or settings.num_attention_heads % layout.ulysses)
        self._context.ulysses_anything = uneven and layout.ring == 1
        self._context.ring_anything = uneven and layout.ring > 1

    def gather(self, module: Any, args: Any, part: torch.Tensor) -> torch.Tensor:
        """All ranks' tokens, [rows, tokens, channels], from this rank's, as `tensor_split` cut."""
        size = self._layout.sequence
        most, longer = -(-self._tokens // size), self._tokens % size
        filled = F.pad(part, (0, 0, 0, most - part.shape[1]))
        whole = gather_shares(filled, 1, self._context._flattened_mesh.get_group())
        if not longer:
            return whole
        parts = torch.split(whole, most, dim=1)
        return torch.cat([*parts[:longer], *(each[:, :-1] for each in parts[longer:])], dim=1)


def _check_heads(network: Any, layout: ParallelLayout) -> None:
    """Refuse a Ulysses degree that heads cannot be filled up for: the last rank would have none.

    Raises:
        UserError: With the numbers.
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
