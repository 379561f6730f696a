"""Decoding by all ranks of a group, by DistVAE: each holds a band of the picture's rows.

Convolutions fetch the rows beside their band from the neighbours, attention and group norms see
all of it, and every rank ends with the whole clip. That is exact but for rounding, tiled or not.
Without it one rank decodes and the others wait.

DistVAE 0.1, which xfuser brings, knows the decoders of Wan and HunyuanVideo; of CogVideoX and
LTX-Video it has none that fits. Runs inside ranks, after `torch.distributed` was initialised.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def share_decoder(vae: Any) -> None:
    """Have all ranks decode together; `vae.decode` must then be called in each of them.

    A clip whose rows are too few for the ranks raises ValueError in all of them.

    Args:
        vae: Of a loaded pipeline.
    """
    from distvae.vae import parallelize_decoder

    parallelize_decoder(vae, dist.group.WORLD)
