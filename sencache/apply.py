"""Putting the cache on the networks of a pipeline and taking it off again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks.hooks import HookRegistry

from sencache.config import SenCacheConfig, missing_profile
from sencache.families.base import Family
from sencache.families.registry import OFFICIAL_SETTINGS, family_of
from sencache.hook.agreement import Agreement
from sencache.hook.attachment import attach, detach, is_offloaded
from sencache.hook.hook import SenCacheHook
from sencache.hook.sampler_position import SamplerPosition
from sencache.pipelines import boundary_of, guidance_of, networks_of
from sencache.policies.base import Policy
from sencache.policies.branch_rules import AnyProfile
from sencache.policies.gated import drift_gate
from sencache.policies.planned import PlannedPolicy, drift_planner
from sencache.policies.sensitivity import SensitivityPolicy
from sencache.profiles.metadata import ProfileError, architecture_of
from sencache.profiles.official import OfficialProfile
from sencache.profiles.profile import SensitivityProfile
from sencache.reuse.base import Reuse
from sencache.reuse.block_stack import BlockStack
from sencache.reuse.forecast import ForecastReuse
from sencache.reuse.output import NoReuse, OutputReuse
from sencache.reuse.residual import ResidualReuse
from sencache.schedules.drift import OutputDrift
from sencache.stats import RunLog, SampleStats

HOOK_NAME = "sencache"
POLICY_HOOK_NAME = "sencache_policy"

PolicyMaker = Callable[[str, torch.nn.Module, Family, SamplerPosition], tuple[Policy, Reuse]]
"""Makes the policy and the reuse of one network from its name in the pipeline, the network itself,
its family and the pipeline's sampler."""


@dataclass(frozen=True)
class SenCacheHandle:
    """The cache of the networks of one pipeline.

    Attributes:
        config: Its settings.
        profile: The profile it decides with, if any.
        hooks: The networks and their hooks, in the pipeline's order.
    """

    config: SenCacheConfig
    profile: AnyProfile | None
    hooks: tuple[tuple[torch.nn.Module, SenCacheHook], ...]
    _log: RunLog

    def stats(self) -> list[SampleStats]:
        """What happened in the current or last pipeline call, per sample in batch order.

        Joins all networks that took part. Stays until the next call begins, also after an error;
        empty before the first call. Costs one transfer from the device.
        """
        return self._log.samples()

    def reset(self) -> None:
        """Drop all kept outputs, as diffusers does at the end of a pipeline call."""
        for network, hook in self.hooks:
            hook.reset_state(network)


def apply_sencache(
    target: Any,
    config: SenCacheConfig,
    profile: AnyProfile | None = None,
    *,
    family: Family | None = None,
    model: str | None = None,
    revision: str | None = None,
    sampler: str | None = None,
    shift: float | None = None,
    agreement: Agreement | None = None,
) -> SenCacheHandle:
    """Cache the outputs of a diffusers pipeline's transformers while it samples.

    Args:
        target: The pipeline, or one transformer of it. A pipeline is better: its scheduler tells
            the number of steps, the step of a call, and whether the profile fits; and both networks
            of Wan 2.2 are cached at once. Turn on context parallelism first, so that the cache
            sees whole latents; offloading by accelerate may come before or after.
        config: Policy and parameters.
        profile: Sensitivities of this very model; required if any step may be reused.
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
        ValueError: A cache is already applied, the class is unknown, or the profile is missing,
            of the other kind than the policy's, or belongs to another model, revision, family or
            architecture.

    Warns:
        ProfileWarning: The profile was measured with another sampler, shift or dtype; or, at the
            first call, with another number of steps or without the guidance branch that runs.
    """
    networks = networks_of(target)
    for network in networks.values():
        _refuse_second_cache(network)
    if config.may_reuse and profile is None:
        raise ValueError(missing_profile(config))
    families = {name: family or family_of(network) for name, network in networks.items()}
    scheduler = None if isinstance(target, torch.nn.Module) else target.scheduler
    for name, network in networks.items():
        if isinstance(profile, SensitivityProfile):
            if config.policy == "official":
                raise ProfileError(missing_profile(config))
            profile.check(
                model=model,
                revision=revision,
                family=families[name].name,
                architecture=architecture_of(network),
                scheduler=scheduler,
                dtype=getattr(network, "dtype", None),
                sampler=sampler,
                shift=shift,
            )
        elif isinstance(profile, OfficialProfile):
            _check_official(profile, config, families[name])
    # Looks the scheduler up at every call, because callers may replace it.
    boundary = None if scheduler is None else boundary_of(target)
    position = SamplerPosition(None if scheduler is None else lambda: target.scheduler, boundary)
    log = RunLog()
    stacks = {}
    if config.may_reuse and config.reuse_object == "residual":
        stacks = {
            name: BlockStack(network, families[name], _residual_end(config, families[name]))
            for name, network in networks.items()
        }
    hooks = []
    for name, network in networks.items():
        stack = stacks.get(name)
        reuse: Reuse = OutputReuse() if config.may_reuse else NoReuse()
        if stack is not None:
            reuse = ResidualReuse(stack)
        policy: Policy
        if config.policy == "planned" and config.may_reuse:
            drift, unit = _planned_by(profile, scheduler)
            if config.gate and boundary is not None:
                raise ValueError(
                    "SenCacheConfig.gate is for pipelines with one network; this one has two"
                )
            policy = PlannedPolicy(
                drift_planner(config, drift), position, unit, drift_gate(config, drift), agreement
            )
            reuse = ForecastReuse(config.order)
        else:
            policy = SensitivityPolicy(config, profile, position, agreement)
        hook = SenCacheHook(
            config,
            profile.hash if profile else "",
            families[name],
            policy,
            reuse,
            position,
            log,
            functools.partial(guidance_of, target, config.guidance),
        )
        hooks.append((network, hook))
    # All checks come before the first hook, so an error leaves no trace.
    for stack in stacks.values():
        stack.attach()
    for network, hook in hooks:
        attach(network, hook, HOOK_NAME)
        # diffusers' enable_cache accepts its own configs only. It would set this private marker,
        # which makes is_cache_enabled true, so that a second cache is refused instead of stacked.
        network.__dict__["_cache_config"] = config
    return SenCacheHandle(config, profile, tuple(hooks), log)


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
    for network in networks_of(target).values():
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
        hook.reuse.release()
        network.__dict__.pop("_cache_config", None)


def _refuse_second_cache(network: torch.nn.Module) -> None:
    applied = getattr(network, "_cache_config", None)
    if applied is not None:
        raise ValueError(
            f"a cache is already applied ({type(applied).__name__}); take it off first with "
            "remove_sencache, or with disable_cache if it is one of diffusers"
        )


def _planned_by(profile: AnyProfile | None, scheduler: Any) -> tuple[OutputDrift, int]:
    """What cache schedules need: the model's drift, and the unit of its time."""
    if scheduler is None:
        raise ValueError(
            'policy="planned" needs the sampler\'s schedule: give apply_sencache the pipeline, not '
            "its transformer"
        )
    if not isinstance(profile, SensitivityProfile) or profile.drift is None:
        raise ProfileError(
            'policy="planned" needs a profile with the drift of the output, which this one was '
            "measured without; measure it anew with sencache.calibrate"
        )
    return profile.drift, profile.metadata.num_train_timesteps


def _residual_end(config: SenCacheConfig, family: Family) -> str | None:
    """Where the authors' code ends a residual, if not after the last block."""
    return OFFICIAL_SETTINGS[family.name].residual_end if config.policy == "official" else None


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
