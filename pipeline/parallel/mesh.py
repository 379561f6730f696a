"""Which ranks of a group do what together: branches of guidance x ring x Ulysses.

Ranks that share the tokens of a clip have neighbouring numbers, as xfuser counts them too; with two
branches the first half of the ranks has the one and the second half the other.
"""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from pipeline.parallel.layout import ParallelLayout

CFG, RING, ULYSSES = "cfg", "ring", "ulysses"
"""Dimensions; the last two as diffusers names them."""


def rank_mesh(layout: ParallelLayout, device: torch.device) -> DeviceMesh:
    """The ranks of the process group by what they share; call it in all of them at once.

    Args:
        layout: Degrees; their product is the number of ranks.
        device: Of this rank.
    """
    return init_device_mesh(
        device.type, (layout.cfg, layout.ring, layout.ulysses), mesh_dim_names=(CFG, RING, ULYSSES)
    )
