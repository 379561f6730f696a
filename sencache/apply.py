"""Putting the cache on the networks of a pipeline and taking it off again."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.hooks.hooks import HookRegistry

from sencache.config import SenCacheConfig, missing_profile
from sencache.families.base import Family
from sencache.families.refusals import refuse_pipeline
from sencache.families.registry import UnknownTransformerError, family_of
from sencache.handle import AnyHook, SenCacheHandle
from sencache.hook.agreement import Agreement
from sencache.hook.attachment import attach, detach, is_offloaded
from sencache.hook.counting import CountingHook
from sencache.hook.hook import SenCacheHook
from sencache.hook.sampler_position import SamplerPosition
from sencache.pipelines import (
    boundary_of,
    counted_networks_of,
    guidance_of,
    networks_of,
    scheduler_of,
)
from sencache.policies.base import Policy
from sencache.policies.branch_rules import AnyProfile
from sencache.policies.choice import policy_of
from sencache.profiles.metadata import ProfileError, architecture_of
from sencache.profiles.noise_levels import for_sampler
from sencache.profiles.official import OfficialProfile
from sencache.profiles.profile import SensitivityProfile
from sencache.reuse.base import Reuse
from sencache.reuse.block_stack import BlockStack
from sencache.settings import config_of, name_of, profile_of
from sencache.stats import RunLog

HOOK_NAME = "sencache"
POLICY_HOOK_NAME = "sencache_policy"

Name = str | os.PathLike[str]

PolicyMaker = Callable[[str, torch.nn.Module, Family, SamplerPosition], tuple[Policy, Reuse]]
"""Makes the policy and the reuse of one network from its name in the pipeline, the network itself,
its family and the pipeline's sampler."""


def apply_sencache(
    target: Any,
    config: SenCacheConfig | Name,
    profile: AnyProfile | Name | None = None,
    *,
    family: Family | None = None,
    model: Name | None = None,
    revision: Name | None = None,
    sampler: Name | None = None,
    shift: float | None = None,
    agreement: Agreement | None = None,
) -> SenCacheHandle:
    """Cache the outputs of a diffusers pipeline's transformers while it samples.

    Args:
        target: The pipeline, or one transformer of it. A pipeline is better: its scheduler tells
            the number of steps, the step of a call, and whether the profile fits; and both networks
            of Wan 2.2 are cached at once. Turn on context parallelism first, so that the cache
            sees whole latents; offloading by accelerate may come before or after.
        config: Policy and parameters, or the name of a quality (:data:`~sencache.QUALITY`) or
            preset (:data:`~sencache.PRESETS`). Without reuse, networks of every class will do.
        profile: Sensitivities of this very model, or the path of their file. Without one, steps are
            reused by the prior for what the model predicts, which the scheduler tells.
        family: Description of a transformer class that :mod:`sencache.families` does not list.
        model: Id of the model, to be compared with the profile's; None is not compared.
        revision: Revision of its weights, likewise.
        sampler: Class name of the scheduler, likewise; a pipeline's own is always compared.
        shift: Flow shift of its sigma schedule, likewise.
        agreement: Of the ranks that run the network together. Planned runs without a gate and runs
            without reuse need none and exchange nothing.

    Returns:
        A handle for statistics and reset.

    Raises:
        ValueError: A cache is already applied, the class or the name of the settings is unknown,
            the pipeline samples in a way that allows no reuse, or the profile is missing, of the
            other kind than the policy's, or belongs to another model, revision, family or
            architecture.
        TypeError: The settings or the profile are of another type.

    Warns:
        ProfileWarning: The profile was measured with another sampler, shift or dtype; or, at the
            first call, with another number of steps or without the guidance branch that runs.
    """
    config = config_of(config)
    if config.may_reuse:
        refuse_pipeline(target)
    networks = networks_of(target) if config.may_reuse else counted_networks_of(target)
    for network in networks.values():
        _refuse_second_cache(network)
    scheduler = scheduler_of(target)
    families = _families(networks, config, family)
    profile, origin = profile_of(profile, config, scheduler)
    for name, network in networks.items():
        own = families[name]
        if own is None:
            continue  # nothing is reused
        if isinstance(profile, SensitivityProfile):
            if config.policy == "official":
                raise ProfileError(missing_profile(config))
            profile.check(
                model=name_of(model, "model"),
                revision=name_of(revision, "revision"),
                family=own.name,
                architecture=architecture_of(network),
                scheduler=scheduler,
                dtype=getattr(network, "dtype", None),
                sampler=name_of(sampler, "sampler"),
                shift=shift,
                once=True,
            )
        elif isinstance(profile, OfficialProfile):
            _check_official(profile, config, own)
    # Looks the scheduler up at every call, because callers may replace it.
    boundary = None if scheduler is None else boundary_of(target)
    position = SamplerPosition(None if scheduler is None else lambda: target.scheduler, boundary)
    log, guidance = RunLog(), functools.partial(guidance_of, target, config.guidance)
    profile_hash = profile.hash if profile else ""
    used = for_sampler(profile, scheduler) if isinstance(profile, SensitivityProfile) else profile
    stacks: list[BlockStack] = []
    hooks: list[tuple[torch.nn.Module, AnyHook]] = []
    for name, network in networks.items():
        own = families[name]
        if not config.may_reuse or own is None:
            counting = CountingHook(own, config.policy, profile_hash, position, log, guidance)
            hooks.append((network, counting))
            continue
        policy, reuse, stack = policy_of(network, own, config, used, position, agreement)
        stacks += [stack] if stack is not None else []
        hook = SenCacheHook(config, profile_hash, own, policy, reuse, position, log, guidance)
        hook.error_scale = used.error_scale if isinstance(used, SensitivityProfile) else 1.0
        hooks.append((network, hook))
    # All checks come before the first hook, so an error leaves no trace.
    for stack in stacks:
        stack.attach()
    for network, each in hooks:
        attach(network, each, HOOK_NAME)
        # diffusers' enable_cache accepts its own configs only. It would set this private marker,
        # which makes is_cache_enabled true, so that a second cache is refused instead of stacked.
        network.__dict__["_cache_config"] = config
    return SenCacheHandle(config, profile, tuple(hooks), log, origin)


def _families(
    networks: Mapping[str, torch.nn.Module], config: SenCacheConfig, given: Family | None
) -> dict[str, Family | None]:
    """The family of each network; None where it is unknown and not needed."""
    families: dict[str, Family | None] = {}
    for name, network in networks.items():
        try:
            families[name] = given or family_of(network)
        except UnknownTransformerError:
            if config.may_reuse:
                raise
            families[name] = None
    return families


@contextmanager
def apply_policy(
    pipe: Any,
    make: PolicyMaker,
    networks: Mapping[str, tuple[torch.nn.Module, Family]] | None = None,
) -> Iterator[SenCacheHandle]:
    """Let any policy and reuse run the networks of a pipeline, until the context ends.

    Args:
        pipe: A diffusers pipeline without a cache.
        make: Makes policy and reuse of each network.
        networks: By name, the networks and their families; None for all of the pipeline.

    Yields:
        The handle, for statistics.

    Raises:
        ValueError: The pipeline has no transformer, or its class is unknown.
    """
    sampler, log = SamplerPosition(lambda: pipe.scheduler, boundary_of(pipe)), RunLog()
    if networks is None:
        networks = {name: (each, family_of(each)) for name, each in networks_of(pipe).items()}
    config, hooks = SenCacheConfig(policy="planned"), []  # this config only permits reuse
    guidance = functools.partial(guidance_of, pipe, None)
    with ExitStack() as applied:
        for name, (network, family) in networks.items():
            policy, reuse = make(name, network, family, sampler)
            applied.callback(reuse.release)
            hook = SenCacheHook(config, "", family, policy, reuse, sampler, log, guidance)
            attach(network, hook, POLICY_HOOK_NAME)
            applied.callback(detach, network, POLICY_HOOK_NAME)
            hooks.append((network, hook))
        yield SenCacheHandle(config, None, tuple(hooks), log)


def remove_sencache(target: Any) -> None:
    """Remove the cache and restore the forward. Does nothing where there is none.

    Args:
        target: What the cache was applied to: a pipeline or a transformer.

    Raises:
        RuntimeError: A diffusers hook was registered after this one, and it replaces the forward
            or the transformer is offloaded. diffusers 0.42 would remove it together with this one.
    """
    for network in counted_networks_of(target).values():
        registry = HookRegistry.check_if_exists_or_initialize(network)
        hook = registry.get_hook(HOOK_NAME)
        if hook is None:
            continue
        later = registry._hook_order[registry._hook_order.index(HOOK_NAME) + 1 :]
        if any(hasattr(registry.hooks[name], "new_forward") for name in later) or (
            later and is_offloaded(network)
        ):
            raise RuntimeError(f"remove the hooks registered after SenCache first: {later}")
        detach(network, HOOK_NAME)
        hook.release()
        network.__dict__.pop("_cache_config", None)


def _refuse_second_cache(network: torch.nn.Module) -> None:
    applied = getattr(network, "_cache_config", None)
    if applied is not None:
        raise ValueError(
            f"a cache is already applied ({type(applied).__name__}); take it off first with "
            "remove_sencache, or with disable_cache if it is one of diffusers"
        )


def _check_official(profile: OfficialProfile, config: SenCacheConfig, family: Family) -> None:
    if config.policy == "paper":
        raise ProfileError(
            "an OfficialProfile holds absolute norms at one resolution; policy='paper' needs a "
            "SensitivityProfile, which sencache.calibrate measures"
        )
    if profile.family != family.name:
        raise ProfileError(
            f"profile was measured with family {profile.family!r} but the run has "
            f"{family.name!r}; pass the authors' file of this model"
        )
