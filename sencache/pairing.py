"""Telling whether one call of a network holds both branches of guidance."""

from __future__ import annotations

import torch


def is_paired(latents: torch.Tensor) -> bool:
    """Whether the rows are two copies of the same clips, one copy per guidance branch.

    Pipelines that evaluate both branches in one call repeat the latents, so that the halves are
    equal bit for bit; without guidance they call under the same cache context with each clip
    once. Clips that are all alike cannot be told from branches and count as such: two clips
    generated from one seed, for example. On CUDA the comparison waits for the device; once per
    sampling run is enough, as no run changes between the two.

    Args:
        latents: What a call is given, shape [rows, ...].

    Returns:
        True if and only if the number of rows is even and the first half equals the second.
    """
    rows = latents.shape[0]
    if rows == 0 or rows % 2:
        return False
    first, second = latents.detach().chunk(2)
    return torch.equal(first, second)
