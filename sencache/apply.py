"""Putting the cache on a transformer and taking it off again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.hooks.hooks import HookRegistry

from sencache.attachment import attach, detach, is_offloaded
from sencache.config import SenCacheConfig, missing_profile
from sencache.families import Family, family_of
from sencache.hook import SenCacheHook
from sencache.profile import SensitivityProfile
from sencache.stats import SampleStats

HOOK_NAME = "sencache"


@dataclass(frozen=True)
class SenCacheHandle:
    """The cache of one transformer.

    Attributes:
        config: Its settings.
        profile: The profile it decides with, if any.
    """

    config: SenCacheConfig
    profile: SensitivityProfile | None
    _transformer: torch.nn.Module
    _hook: SenCacheHook

    def stats(self) -> list[SampleStats]:
        """What happened in the current or last pipeline call, per sample in batch order.

        Kept until the next call begins, also when one raised; empty before the first. Costs
        one transfer from the device.
        """
        return self._hook.stats()

    def reset(self) -> None:
        """Forget all cached outputs, as diffusers does at the end of a pipeline call."""
        self._hook.reset_state(self._transformer)


def apply_sencache(
    transformer: torch.nn.Module,
    config: SenCacheConfig,
    profile: SensitivityProfile | None = None,
    *,
    family: Family | None = None,
    model: str | None = None,
    revision: str | None = None,
    sampler: str | None = None,
    shift: float | None = None,
) -> SenCacheHandle:
    """Cache a transformer's outputs while a diffusers pipeline samples with it.

    Args:
        transformer: The pipeline's transformer. Turn context parallelism on first, so that this
            hook sees whole latents; offloading by accelerate may come before or after.
        config: Policy and parameters.
        profile: Sensitivities of this very model; required if any step may be reused.
        family: Description of a transformer class that :mod:`sencache.families` does not list.
        model: Id of the model, to be compared with the profile's; this and what follows is not
            compared if left out, because a transformer does not tell it.
        revision: Revision of its weights.
        sampler: Class name of the pipeline's scheduler.
        shift: Flow shift of its sigma schedule.

    Returns:
        A handle for statistics and reset.

    Raises:
        ValueError: A cache is already applied, the class is unknown, or the profile is missing
            or belongs to another model, revision or family.

    Warns:
        ProfileWarning: The profile was measured with another sampler, shift or dtype; or, at the
            first call, with another number of steps or without the guidance branch that runs.
    """
    applied = getattr(transformer, "_cache_config", None)
    if applied is not None:
        raise ValueError(
            f"a cache is already applied ({type(applied).__name__}); take it off first with "
            "remove_sencache, or with disable_cache if it is one of diffusers"
        )
    family = family or family_of(transformer)
    if config.may_reuse and profile is None:
        raise ValueError(missing_profile(config))
    if profile is not None:
        profile.check(
            model=model,
            revision=revision,
            family=family.name,
            dtype=getattr(transformer, "dtype", None),
            sampler=sampler,
            shift=shift,
        )
    hook = SenCacheHook(config, profile, family)
    attach(transformer, hook, HOOK_NAME)
    # diffusers' enable_cache knows its own configs only. This private marker is what it would
    # set: is_cache_enabled becomes true, and a second cache is refused instead of stacked.
    transformer.__dict__["_cache_config"] = config
    return SenCacheHandle(config, profile, transformer, hook)


def remove_sencache(transformer: torch.nn.Module) -> None:
    """Take the cache off and restore the transformer's forward. Does nothing if there is none.

    Raises:
        RuntimeError: Another diffusers hook that replaces the forward was registered after this
            one, or any hook of a transformer that is offloaded; diffusers 0.42 would drop what
            lies between together with this one.
    """
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    if registry.get_hook(HOOK_NAME) is None:
        return
    later = registry._hook_order[registry._hook_order.index(HOOK_NAME) + 1 :]
    if any(hasattr(registry.hooks[name], "new_forward") for name in later) or (
        later and is_offloaded(transformer)
    ):
        raise RuntimeError(f"remove the hooks registered after SenCache first: {later}")
    detach(transformer, HOOK_NAME)
    transformer.__dict__.pop("_cache_config", None)
