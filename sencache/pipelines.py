"""What a diffusers pipeline tells about itself: its networks, whether it guides, its boundary."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

# Attributes in which the pipelines of diffusers keep their networks, in the order of use.
NETWORKS = ("transformer", "transformer_2")
# Where networks are kept whose outputs are never reused, but whose calls can be counted.
OTHER_NETWORKS = ("unet",)


def networks_of(target: Any) -> Mapping[str, torch.nn.Module]:
    """The transformers of a pipeline that sample, by attribute; or the one network given.

    Raises:
        ValueError: Neither a module nor a pipeline with a transformer.
    """
    return _networks(target, NETWORKS)


def counted_networks_of(target: Any) -> Mapping[str, torch.nn.Module]:
    """The networks of any kind that sample, by attribute; or the one network given.

    Raises:
        ValueError: Neither a module nor a pipeline with such a network.
    """
    return _networks(target, NETWORKS + OTHER_NETWORKS)


def scheduler_of(target: Any) -> Any | None:
    """The scheduler of a pipeline; None of a network.

    Raises:
        ValueError: The pipeline has no scheduler.
    """
    if isinstance(target, torch.nn.Module):
        return None
    scheduler = getattr(target, "scheduler", None)
    if scheduler is None:
        raise ValueError(f"{type(target).__name__} has no scheduler; pass a diffusers pipeline")
    return scheduler


def _networks(target: Any, names: Sequence[str]) -> Mapping[str, torch.nn.Module]:
    if isinstance(target, torch.nn.Module):
        return {"transformer": target}
    if isinstance(target, type):
        raise ValueError(
            f"{target.__name__} is a class; pass a pipeline that from_pretrained has loaded"
        )
    found = {name: getattr(target, name, None) for name in names}
    networks = {name: net for name, net in found.items() if isinstance(net, torch.nn.Module)}
    if not networks:
        if isinstance(getattr(target, "unet", None), torch.nn.Module):
            raise ValueError(
                f"the network of {type(target).__name__} is a U-Net, whose outputs are not reused "
                '(the pipeline has no transformer); policy="none" works'
            )
        raise ValueError(
            f"an object of type {type(target).__name__} has no {' or '.join(names)}; pass a "
            "diffusers video pipeline, or its transformer"
        )
    return networks


def guidance_of(target: Any, configured: bool | None) -> bool | None:
    """Whether calls hold both branches of guidance; None if neither settings nor pipeline tell."""
    if configured is not None or isinstance(target, torch.nn.Module):
        return configured
    # AttributeError, or TypeError where it compares None: the pipeline was not called yet.
    with contextlib.suppress(AttributeError, TypeError):
        known = getattr(target, "do_classifier_free_guidance", None)
        if known is None and (scale := getattr(target, "guidance_scale", None)) is not None:
            known = scale > 1.0  # CogVideoX keeps the scale only
        return None if known is None else bool(known)
    return None


def boundary_of(pipe: Any) -> float | None:
    """Tau below which a pipeline's second network samples (Wan 2.2)."""
    ratio = getattr(pipe.config, "boundary_ratio", None) if hasattr(pipe, "config") else None
    return None if ratio is None or len(networks_of(pipe)) < 2 else float(ratio)
