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
    frames than its VAE does (CogVideoX), so a declared multiple of the temporal stride stays. So do
    rules of clips in whole chunks, which begin with no frame of their own.
    """
    multiple, stride = strides(configs)
    found = known
    if multiple is not None:
        found = dataclasses.replace(found, multiple=multiple)
    if stride is not None and known.frame_start and known.frame_stride % stride:
        found = dataclasses.replace(found, frame_stride=stride)
    return _within_tables(found, configs)


TEXT_AFTER_IMAGE = 512
"""Text tokens that follow the tokens of an image in a network of Wan's kind."""


def text_length_of(configs: Mapping[str, Mapping[str, Any]]) -> int | None:
    """The one text length that a network can take, in tokens; None for any.

    CogVideoX 2B adds a table of positions to text and video together, so a text of another length
    would shift the positions of the video. Networks of Wan's kind that also see an image encoder's
    tokens take all tokens but the last 512 for those (diffusers 0.42, `WanAttnProcessor`).
    """
    network = configs.get("transformer", {})
    if network.get("image_dim") is not None and network.get("added_kv_proj_dim") is not None:
        return TEXT_AFTER_IMAGE
    length = network.get("max_text_seq_length")
    rotary = network.get("use_rotary_positional_embeddings", True)
    return length if isinstance(length, int) and not rotary else None


def _within_tables(found: SizeRules, configs: Mapping[str, Mapping[str, Any]]) -> SizeRules:
    """Add the limits of a network whose positions are rows of a table."""
    network = configs.get("transformer", {})
    longest, patch = network.get("rope_max_seq_len"), network.get("patch_size")
    if isinstance(longest, int) and isinstance(patch, list):  # Wan
        frames = (longest - 1) * found.frame_stride + 1
        return dataclasses.replace(found, max_frames=min(frames, found.max_frames or frames))
    table = network.get("use_rotary_positional_embeddings") and network.get("patch_size_t")
    if table and isinstance(patch, int):  # CogVideoX 1.5
        stride = found.multiple // patch
        sides = [network.get(f"sample_{name}") for name in ("width", "height")]
        width, height = (each * stride if isinstance(each, int) else None for each in sides)
        return dataclasses.replace(found, max_width=width, max_height=height)
    return found


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if isinstance(value := config.get(name), int):
            return value
    return None
