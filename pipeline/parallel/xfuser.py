"""Splitting a network over ranks with xfuser: its own transformer and its USP attention.

Runs inside ranks, on GPUs, after `torch.distributed` was initialised. xfuser is imported only when
a group uses it, because its import reads devices and environment. Written against xfuser 0.7:
without a visible GPU, it silently has every rank attend to its own tokens only, so the degrees that
it really runs are compared with those of the layout.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist

from pipeline.errors import UserError
from pipeline.models.families.base import ModelFamily
from pipeline.parallel.layout import ParallelLayout
from sencache import networks_of

ATTENTION = {
    "sdpa": "SDPA",
    "sdpa_flash": "SDPA_FLASH",
    "cudnn": "CUDNN",
    "flash": "FLASH",
    "flash3": "FLASH_3",
}
"""xfuser's name of each `--engine.attention`. For `auto`, xfuser chooses the fastest that the
device and the installed packages offer."""


def join_ranks(layout: ParallelLayout, device: torch.device) -> None:
    """Make xfuser's process groups; all ranks call it before they load networks.

    Raises:
        UserError: xfuser runs other degrees than the layout's, as it does where it sees no GPU.
    """
    from xfuser.core.distributed import parallel_state

    backend = "nccl" if device.type == "cuda" else "gloo"
    parallel_state.init_distributed_environment(
        world_size=dist.get_world_size(), rank=dist.get_rank(), backend=backend
    )
    parallel_state.initialize_model_parallel(
        classifier_free_guidance_degree=layout.cfg,
        sequence_parallel_degree=layout.sequence,
        ulysses_degree=layout.ulysses,
        ring_degree=layout.ring,
        backend=backend,
    )
    run = running_degrees()
    if run != (layout.ulysses, layout.ring):
        raise UserError(
            f"xfuser runs Ulysses {run[0]} x ring {run[1]} instead of {layout.ulysses} x "
            f"{layout.ring}: it sees no GPU; use --parallel.backend context_parallel"
        )


def running_degrees() -> tuple[int, int]:
    """Ulysses and ring degree that xfuser's attention really uses."""
    from xfuser.core.distributed import parallel_state
    from xfuser.model_executor.layers import usp

    groups = usp.PROCESS_GROUP  # None where xfuser saw no GPU when it was imported
    if groups is None:
        return 1, 1
    degrees = (
        parallel_state.get_ulysses_parallel_world_size(),
        parallel_state.get_ring_parallel_world_size(),
    )
    held = dist.get_world_size(groups.ULYSSES_PG), dist.get_world_size(groups.RING_PG)
    return degrees if degrees == held else held


def network_class(family: ModelFamily) -> type[torch.nn.Module]:
    """Xfuser's class for a family's networks; it loads the same weights."""
    module, _, name = family.xfuser_network.partition(":")
    found: type[torch.nn.Module] = getattr(import_module(module), name)
    return found


def take_over(
    pipe: Any, family: ModelFamily, layout: ParallelLayout, attention: str = "auto"
) -> None:
    """Have xfuser run the networks of a loaded pipeline.

    Args:
        pipe: With networks of `network_class`.
        family: Of the model.
        layout: As given to `join_ranks`.
        attention: A name of `ATTENTION`, or `auto`.

    Raises:
        UserError: Heads that cannot be shared, or an attention that xfuser cannot use here.
    """
    from xfuser import xFuserArgs
    from xfuser.core.distributed import runtime_state

    networks = networks_of(pipe)
    for network in networks.values():
        check_heads(network, layout)
    arguments = xFuserArgs(
        model=type(pipe).__name__,
        ulysses_degree=layout.ulysses,
        ring_degree=layout.ring,
        use_cfg_parallel=layout.cfg > 1,
    )
    config, _ = arguments.create_config()
    dtype: Any = next(iter(networks.values())).dtype
    if attention == "auto" and dtype is torch.float32:
        attention = "sdpa"  # the fused kernels that xfuser would choose need half precision
    config.runtime_config.attention_backend = ATTENTION.get(attention)
    try:
        runtime_state.initialize_runtime_state(pipe, config)
    except (RuntimeError, ValueError) as error:
        kind = f"ring {layout.ring}, {dtype}".replace("torch.", "")
        raise UserError(f"--engine.attention {attention} with {kind}: {error}") from error
    for network in networks.values():
        _ignore_padding(network, family, layout)


def check_heads(network: torch.nn.Module, layout: ParallelLayout) -> None:
    """Refuse a Ulysses degree that does not divide the heads.

    Raises:
        UserError: They do not divide.
    """
    settings: Any = network.config
    heads = settings.num_attention_heads
    if heads % layout.ulysses:
        fitting = [str(degree) for degree in range(1, heads + 1) if heads % degree == 0]
        raise UserError(
            f"--parallel.degree {layout.size} shares {heads} attention heads of "
            f"{type(network).__name__} over {layout.ulysses} ranks: use a Ulysses degree of "
            f"{', '.join(fitting)}; --parallel.ring R makes it degree / R"
        )


def _ignore_padding(network: torch.nn.Module, family: ModelFamily, layout: ParallelLayout) -> None:
    """Keep the tokens that xfuser pads a sequence with out of the attention.

    xfuser 0.7 pads a sequence that does not divide with zeros, and lets every token attend to them,
    which changes the output. Its attention can leave out a suffix of the keys if it is told to.
    """
    shared: dict[str, Any] = {}
    network.attention_kwargs = shared  # type: ignore[assignment]  # xfuser's, read at each call
    for block in network.blocks:  # type: ignore[union-attr]
        block.attn1.processor.attention_kwargs = shared

    def tell(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        latents = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        tokens = family.tokens(module, latents.shape)
        shared.pop("valid_kv_len", None)
        if tokens % layout.sequence:
            if layout.ring > 1:
                raise ValueError(
                    f"a clip of {tokens} tokens cannot be shared evenly by a ring of "
                    f"{layout.ring} ranks: choose another size or leave --parallel.ring out"
                )
            shared["valid_kv_len"] = tokens

    network.register_forward_pre_hook(tell, with_kwargs=True)
