"""Splitting a transformer's sequence over ranks with diffusers' own context parallelism.

`enable_parallelism` of diffusers 0.42 does the same, but takes its device from the number of
accelerators and so cannot run where there is none; here the mesh and the device are given. Runs
inside ranks, after `torch.distributed` was initialised.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models._modeling_parallel import ParallelConfig
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_processor import Attention
from torch.distributed.device_mesh import init_device_mesh

from pipeline.errors import UserError
from sencache import networks_of


def split_sequence(network: torch.nn.Module, device: torch.device) -> None:
    """Have all ranks of the process group run one network together, by Ulysses.

    Put it on before any cache: the cache then sees whole latents on every rank.

    Args:
        network: A diffusers transformer with a plan of its own.
        device: Of this rank.

    Raises:
        UserError: The network has no plan, or heads that cannot be shared evenly.
    """
    plan: Any = getattr(network, "_cp_plan", None)
    if plan is None:
        raise UserError(f"{type(network).__name__} has no plan for context parallelism")
    size = dist.get_world_size()
    settings: Any = network.config
    heads = settings.num_attention_heads
    if heads % size:
        fitting = [str(degree) for degree in range(1, heads + 1) if heads % degree == 0]
        raise UserError(
            f"--parallel.degree {size} does not divide the {heads} attention heads of "
            f"{type(network).__name__}: use {', '.join(fitting)}"
        )
    mesh = init_device_mesh(device.type, (1, size), mesh_dim_names=("ring", "ulysses"))
    context = ContextParallelConfig(ulysses_degree=size)
    config = ParallelConfig(context_parallel_config=context)
    config.setup(dist.get_rank(), size, device, mesh=mesh)
    for module in network.modules():
        processor: Any = getattr(module, "processor", None)
        if isinstance(module, Attention | AttentionModuleMixin) and hasattr(
            processor, "_parallel_config"
        ):
            processor._parallel_config = config
    settled: Any = network
    settled._parallel_config = config
    apply_context_parallel(network, context, plan)


def check_divides(pipe: Any, width: int, height: int, num_frames: int, ranks: int) -> None:
    """Refuse clips whose tokens cannot be shared out evenly.

    Raises:
        ValueError: With the numbers.
    """
    settings: Any = networks_of(pipe)["transformer"].config
    patch_t, patch_h, patch_w = settings.patch_size
    frames = (num_frames - 1) // pipe.vae_scale_factor_temporal + 1
    rows, columns = (size // pipe.vae_scale_factor_spatial for size in (height, width))
    tokens = (frames // patch_t) * (rows // patch_h) * (columns // patch_w)
    if tokens % ranks:
        raise ValueError(
            f"a clip of {width}x{height}x{num_frames} has {tokens} tokens, which {ranks} ranks "
            "cannot share evenly: choose another size or --parallel.degree"
        )
