"""Putting a hook on a module's forward and removing it without a trace.

Written against the hook registry of diffusers 0.42 and the module hooks of accelerate 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook


class RefusesCopy:
    """A hook that cannot be copied, and so neither can the module that it is on.

    diffusers binds a hook to the module it was registered on. A copy of the module would run the
    original's weights.
    """

    def __deepcopy__(self, _memo: dict[int, Any]) -> NoReturn:
        """Refuse to copy.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "a network with a cache cannot be copied: take the cache off with remove_sencache, "
            "copy, and apply it to each"
        )


def attach(transformer: torch.nn.Module, hook: ModelHook, name: str) -> None:
    """Register a hook that replaces the forward; an offloading hook stays outside of it."""
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    with _beneath_offloading(transformer):
        registry.register_hook(hook, name)
    # A registry caches the list of the registries below it, which lacks this new one.
    registry.invalidate_child_registries_cache()


def detach(transformer: torch.nn.Module, name: str) -> None:
    """Remove a hook and restore the forward that was there before it."""
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    with _beneath_offloading(transformer):
        registry.remove_hook(name, recurse=False)
        forward = transformer.__dict__.get("forward")
        if getattr(forward, "__func__", None) is type(transformer).forward:
            # diffusers leaves the class's own forward, bound, on the instance.
            del transformer.__dict__["forward"]
    registry.invalidate_child_registries_cache()


def is_offloaded(transformer: torch.nn.Module) -> bool:
    """Whether accelerate replaces the transformer's forward."""
    return "_old_forward" in vars(transformer) and "forward" in vars(transformer)


@contextmanager
def _beneath_offloading(transformer: torch.nn.Module) -> Iterator[None]:
    """Apply changes to the forward that accelerate calls, not to accelerate's own.

    At the end of every pipeline call enable_model_cpu_offload restores the forward that accelerate
    found first, so a hook outside of accelerate's would be gone after one call.
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
