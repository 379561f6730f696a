"""What a method leaves on a network after its context, and other shared checks."""

from __future__ import annotations

from typing import Any

import torch

from jobs.benchmarks.baselines import Tunable, nfe_of
from sencache import networks_of
from tests.sencache.support.tiny_pipelines import PIPELINES, TinyPipeline

TINY = {tiny.name: tiny for tiny in PIPELINES}


def trace(pipe: Any) -> dict[str, Any]:
    """Instance attributes and hooks of all modules.

    The registry that diffusers puts on a network when its pipeline opens a context is left out,
    because a run without any cache leaves it too; the hooks within are not.
    """
    found: dict[str, Any] = {}
    for network, root in networks_of(pipe).items():
        for name, module in root.named_modules():
            attributes = vars(module)
            place = f"{network}.{name}"
            registry = attributes.get("_diffusers_hook")
            found[place] = sorted(attributes.keys() - {"_diffusers_hook"})
            if registry is not None:
                found[f"{place} hooks"] = list(registry.hooks)
            found[f"{place} counters"] = (
                len(module._forward_hooks),
                len(module._forward_pre_hooks),
            )
            assert attributes.get("_cache_config") is None
    # An empty registry is no trace.
    return {place: what for place, what in found.items() if what or not place.endswith("hooks")}


def nfe_at(baseline: Tunable, knob: float, pipe: Any, tiny: TinyPipeline, **options: Any) -> float:
    """Mean network evaluations of a run."""
    with baseline.tuned(knob).applied(pipe) as decisions:
        tiny.run(pipe, [1, 2], **options)
    work = nfe_of(decisions)
    return sum(work) / len(work)


def run(pipe: Any, tiny: TinyPipeline, baseline: Any, **options: Any) -> tuple[torch.Tensor, Any]:
    """Latents of a run under a method, and its decisions."""
    with baseline.applied(pipe) as decisions:
        latents = tiny.run(pipe, [1, 2], **options)
    return latents, decisions
