"""Putting the cache on the networks of a pipeline and taking it off again."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks.hooks import HookRegistry

from sencache.config import SenCacheConfig, missing_profile
from sencache.families.base import Family, family_of
from sencache.hook.agreement import Agreement
from sencache.hook.attachment import attach, detach, is_offloaded
from sencache.hook.hook import SenCacheHook
from sencache.hook.sampler_position import SamplerPosition
from sencache.pipelines import boundary_of, guidance_of, networks_of
from sencache.policies.base import Policy
from sencache.policies.branches import AnyProfile
from sencache.policies.gated import drift_gate
from sencache.policies.planned import PlannedPolicy, drift_planner
from sencache.policies.sensitivity import SensitivityPolicy
from sencache.profiles.metadata import ProfileError, architecture_of
from sencache.profiles.official import OFFICIAL_SETTINGS, OfficialProfile
from sencache.profiles.profile import SensitivityProfile
from sencache.reuse.base import (
    NoReuse,
    OutputReuse,
    ResidualReuse,
    Reuse,
)
from sencache.reuse.forecast import ForecastReuse
from sencache.reuse.residual import BlockStack
from sencache.schedules.drift import OutputDrift
from sencache.stats import RunLog, SampleStats

HOOK_NAME = "sencache"


@dataclass(frozen=True)
class SenCacheHandle:
    """The cache of the networks of one pipeline.

    Attributes:
        config: Its settings.
        profile: The profile it decides with, if any.
    """

    config: SenCacheConfig
    profile: AnyProfile | None
    _hooks: tuple[tuple[torch.nn.Module, SenCacheHook], ...]
    _log: RunLog

    def stats(self) -> list[SampleStats]:
        """What happened in the current or last pipeline call, per sample in batch order.

        Of all networks that took part, joined. Kept until the next call begins, also when one
        raised; empty before the first. Costs one transfer from the device.
        """
        return self._log.samples()

    def reset(self) -> None:
        """Forget all cached outputs, as diffusers does at the end of a pipeline call."""
        for network, hook in self._hooks:
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
            the number of steps, where in the schedule a call is, and whether the profile fits; and
            both networks of Wan 2.2 are cached at once. Turn context parallelism on first, so that
            the cache sees whole latents; offloading by accelerate may come before or after.
        config: Policy and parameters.
        profile: Sensitivities of this very model; required if any step may be reused.
        family: Description of a transformer class that :mod:`sencache.families.base` does not list.
        model: Id of the model, to be compared with the profile's; this and what follows is not
            compared if left out, because a transformer does not tell it.
        revision: Revision of its weights.
        sampler: Class name of the scheduler; a pipeline's own is compared anyway.
        shift: Flow shift of its sigma schedule, likewise.
        agreement: Of the ranks that run the network together. Planned runs and such that reuse
            nothing need none and exchange nothing.

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
    # Read anew at every call, for a pipeline's scheduler may be replaced.
    boundary = None if scheduler is None else boundary_of(target)
    schedule = SamplerPosition(None if scheduler is None else lambda: target.scheduler, boundary)
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
        judge: Policy
        if config.policy == "planned" and config.may_reuse:
            drift, unit = _planned_by(profile, scheduler)
            if config.gate and boundary is not None:
                raise ValueError(
                    "SenCacheConfig.gate is for pipelines with one network; this one has two"
                )
            judge = PlannedPolicy(
                drift_planner(config, drift), schedule, unit, drift_gate(config, drift), agreement
            )
            reuse = ForecastReuse(config.order)
        else:
            judge = SensitivityPolicy(config, profile, schedule, agreement)
        hook = SenCacheHook(
            config,
            profile.hash if profile else "",
            families[name],
            judge,
            reuse,
            schedule,
            log,
            functools.partial(guidance_of, target, config.guidance),
        )
        hooks.append((network, hook))
    # Nothing is put on before all of it is known to be right.
    for stack in stacks.values():
        stack.attach()
    for network, hook in hooks:
        attach(network, hook, HOOK_NAME)
        # diffusers' enable_cache knows its own configs only. This private marker is what it would
        # set: is_cache_enabled becomes true, and a second cache is refused instead of stacked.
        network.__dict__["_cache_config"] = config
    return SenCacheHandle(config, profile, tuple(hooks), log)


def remove_sencache(target: Any) -> None:
    """Take the cache off and restore the forward. Does nothing where there is none.

    Args:
        target: A pipeline or a transformer, whichever the cache was applied to.

    Raises:
        RuntimeError: Another diffusers hook that replaces the forward was registered after this
            one, or any hook of a transformer that is offloaded; diffusers 0.42 would drop what
            lies between together with this one.
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
    """What plans are made of: the model's drift, and the unit of its time."""
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
    """Where the authors' code ends a residual, if not behind the last block."""
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
