"""Loading a model so that the ranks of a group share it: its tokens, its guidance, its decoder.

The order matters: tokens are split first, then the branches of guidance, and a cache goes on top of
both. Runs inside ranks, after `torch.distributed` was initialised.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from pipeline.models.engine_options import EngineOptions
from pipeline.models.load import load_pipeline
from pipeline.models.spec import ResolvedModel
from pipeline.parallel.context_parallel import split_network
from pipeline.parallel.guidance import share_rows
from pipeline.parallel.layout import CFG, CONTEXT_PARALLEL, XFUSER, ParallelLayout
from sencache import networks_of


def load_split(
    model: ResolvedModel, layout: ParallelLayout, device: str, dtype: str, options: EngineOptions
) -> Any:
    """Load this rank's share of a model; all ranks call it at once.

    Args:
        model: From `resolve_model`.
        layout: How the ranks share it.
        device: `cpu` or `cuda`.
        dtype: Torch dtype name; "" for the model's own.
        options: Of the engine.

    Returns:
        A diffusers pipeline, with its networks split over the ranks.

    Raises:
        UserError: The model cannot be loaded, or not be split so.
    """
    own, family = torch.device(device), model.spec.family
    mesh = layout.mesh(own)
    network_class = None
    if layout.backend == XFUSER:
        from pipeline.parallel import xfuser

        xfuser.join_ranks(layout, own)
        network_class = xfuser.network_class(family)
    pipe = load_pipeline(model, device, dtype, options=options, network_class=network_class)
    if layout.backend == XFUSER:
        xfuser.take_over(pipe, family, layout, options.attention)
    for network in networks_of(pipe).values():
        if layout.backend == CONTEXT_PARALLEL:
            split_network(network, family, layout, mesh, own)
        if layout.cfg > 1:
            share_rows(network, mesh[CFG].get_group())
    if layout.vae:
        share_decoder(pipe.vae)
    return pipe


def share_decoder(vae: Any) -> None:
    """Have all ranks decode together, by DistVAE; all of them must then call `vae.decode`.

    Each rank holds a band of the picture's rows. Convolutions fetch the rows beside their band from
    the neighbours, attention and group norms see all rows, and every rank ends with the whole clip.
    That is exact but for rounding, tiled or not. A clip with fewer rows than ranks raises
    ValueError in all ranks. DistVAE 0.1, which xfuser installs, knows the decoders of Wan and
    HunyuanVideo, and none that fits CogVideoX or LTX-Video.

    Args:
        vae: Of a loaded pipeline.
    """
    from distvae.vae import parallelize_decoder

    parallelize_decoder(vae, dist.group.WORLD)
