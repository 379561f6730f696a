"""What a diffusers pipeline tells about itself: its networks, whether it guides, its boundary."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch

# Attributes in which the pipelines of diffusers keep their networks, in the order of use.
NETWORKS = ("transformer", "transformer_2")


def networks_of(target: Any) -> Mapping[str, torch.nn.Module]:
    """The networks of a pipeline that sample, by attribute; or the one network given.

    Raises:
        ValueError: Neither a module nor a pipeline with a transformer.
    """
    if isinstance(target, torch.nn.Module):
        return {"transformer": target}
    found = {name: getattr(target, name, None) for name in NETWORKS}
    networks = {name: net for name, net in found.items() if isinstance(net, torch.nn.Module)}
    if not networks:
        raise ValueError(
            f"{type(target).__name__} has no {' or '.join(NETWORKS)}; pass a diffusers video "
            "pipeline, or its transformer"
        )
    return networks


def guidance_of(target: Any, configured: bool | None) -> bool | None:
    """Whether calls hold both branches of guidance; None if neither settings nor pipeline tell."""
    if configured is not None or isinstance(target, torch.nn.Module):
        return configured
    with contextlib.suppress(AttributeError):  # the pipeline was not called yet
        known = getattr(target, "do_classifier_free_guidance", None)
        if known is None and (scale := getattr(target, "guidance_scale", None)) is not None:
            known = scale > 1.0  # CogVideoX keeps the scale only
        return None if known is None else bool(known)
    return None


def boundary_of(pipe: Any) -> float | None:
    """Tau below which a pipeline's second network samples (Wan 2.2)."""
    ratio = getattr(pipe.config, "boundary_ratio", None) if hasattr(pipe, "config") else None
    return None if ratio is None or len(networks_of(pipe)) < 2 else float(ratio)
