"""Which sizes a saved pipeline can make, from the strides in its configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.models.sizes import SizeRules

_SPATIAL = ("scale_factor_spatial", "spatial_compression_ratio")
_TEMPORAL = ("scale_factor_temporal", "temporal_compression_ratio")
"""Names that the VAEs of diffusers 0.42 give to their strides."""


def strides(configs: Mapping[str, Mapping[str, Any]]) -> tuple[int | None, int | None]:
    """Read what width, height and frames must be multiples of.

    Args:
        configs: Configurations of a saved pipeline's parts.

    Returns:
        Spatial stride of the VAE x patch of the network, pixels, and temporal stride of the VAE x
        patch in time, frames; None where the configurations do not say.
    """
    vae, network = configs.get("vae", {}), configs.get("transformer", {})
    space, time = _first(vae, _SPATIAL), _first(vae, _TEMPORAL)
    if isinstance(scaling := vae.get("spatio_temporal_scaling"), list):  # LTX-Video
        steps = 2 ** sum(scaling)
        space = space or vae.get("patch_size", 1) * steps
        time = time or vae.get("patch_size_t", 1) * steps
    elif space is None and isinstance(blocks := vae.get("block_out_channels"), list):
        space = 2 ** (len(blocks) - 1)  # CogVideoX
    patch, patch_in_time = network.get("patch_size"), network.get("patch_size_t")
    if isinstance(patch, list) and len(patch) == 3:
        patch_in_time, patch = patch[0], patch[1]
    if not isinstance(patch, int):
        return None, None if time is None else time
    in_time = patch_in_time if isinstance(patch_in_time, int) else 1
    return None if space is None else space * patch, None if time is None else time * in_time


def sizes_of(configs: Mapping[str, Mapping[str, Any]], known: SizeRules) -> SizeRules:
    """Return the rules of a saved pipeline of a known class.

    The strides of its own configurations count where they are stated. A class may ask for more
    frames than its VAE does (CogVideoX), so a declared multiple of the temporal stride stays.
    """
    multiple, stride = strides(configs)
    found = known
    if multiple is not None:
        found = dataclasses.replace(found, multiple=multiple)
    if stride is not None and known.frame_stride % stride:
        found = dataclasses.replace(found, frame_stride=stride)
    return found


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if isinstance(value := config.get(name), int):
            return value
    return None
