"""Putting a hook on a transformer's forward and taking it off without a trace.

Written against the hook registry of diffusers 0.42 and the module hooks of accelerate 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook


def attach(transformer: torch.nn.Module, hook: ModelHook, name: str) -> None:
    """Register a hook that replaces the forward, beneath an offloading hook if there is one."""
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    with _beneath_offloading(transformer):
        registry.register_hook(hook, name)
    # A registry keeps a list of the registries below it; one made earlier would miss this hook.
    registry.invalidate_child_registries_cache()


def detach(transformer: torch.nn.Module, name: str) -> None:
    """Remove a hook and restore the forward that was there before it."""
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    with _beneath_offloading(transformer):
        registry.remove_hook(name, recurse=False)
        forward = transformer.__dict__.get("forward")
        if getattr(forward, "__func__", None) is type(transformer).forward:
            # diffusers stores the class's own forward, bound, on the instance; leave no trace.
            del transformer.__dict__["forward"]
    registry.invalidate_child_registries_cache()


def is_offloaded(transformer: torch.nn.Module) -> bool:
    """Whether accelerate stands in for the transformer's forward."""
    return "_old_forward" in vars(transformer) and "forward" in vars(transformer)


@contextmanager
def _beneath_offloading(transformer: torch.nn.Module) -> Iterator[None]:
    """Make the forward that accelerate calls the one that is changed.

    enable_model_cpu_offload hooks anew at the end of every pipeline call and restores the forward
    that accelerate found when it came: a hook above accelerate's would be gone after one call.
    """
    if not is_offloaded(transformer):
        yield
        return
    outer = transformer.forward
    transformer.forward = transformer._old_forward  # type: ignore[assignment]
    try:
        yield
    finally:
        transformer._old_forward = transformer.forward  # type: ignore[assignment]
        transformer.forward = outer
