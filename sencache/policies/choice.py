"""Which policy and which reuse the settings stand for."""

from __future__ import annotations

import torch

from sencache.config import SenCacheConfig
from sencache.families.base import Family
from sencache.families.registry import OFFICIAL_SETTINGS
from sencache.hook.agreement import Agreement
from sencache.hook.sampler_position import SamplerPosition
from sencache.policies.base import Policy
from sencache.policies.branch_rules import AnyProfile
from sencache.policies.gated import profile_gate
from sencache.policies.planned import PlannedPolicy, profile_planner
from sencache.policies.sensitivity import SensitivityPolicy
from sencache.profiles.metadata import ProfileError
from sencache.profiles.profile import SensitivityProfile
from sencache.reuse.base import Reuse
from sencache.reuse.block_stack import BlockStack
from sencache.reuse.forecast import ForecastReuse
from sencache.reuse.output import OutputReuse
from sencache.reuse.residual import ResidualReuse
from sencache.schedules.levels import follows_fits


def policy_of(
    network: torch.nn.Module,
    family: Family,
    config: SenCacheConfig,
    profile: AnyProfile | None,
    position: SamplerPosition,
    agreement: Agreement | None,
) -> tuple[Policy, Reuse, BlockStack | None]:
    """Policy and reuse of a network, and its blocks where these have to be hooked.

    Args:
        network: The network.
        family: Its family.
        config: Settings under which steps may be reused.
        profile: Over the times of the pipeline's scheduler.
        position: The pipeline's sampler.
        agreement: Of the ranks that run the network together.

    Raises:
        ValueError: The settings do not go with the pipeline, or the network has no blocks to hook.
        ProfileError: The policy needs another kind of profile.
    """
    if config.policy == "planned":
        measured, unit = _planned_by(profile)
        if config.gate and position.boundary is not None:
            raise ValueError(
                "SenCacheConfig.gate is for pipelines with one network; this one has two"
            )
        gate = profile_gate(config, measured)
        planner = profile_planner(config, measured)
        planned = PlannedPolicy(planner, position, unit, gate, agreement)
        order = _kept_outputs(config, measured)
        return planned, ForecastReuse(order, in_float32=family.float_latents), None
    policy = SensitivityPolicy(config, profile, position, agreement)
    if config.reuse_object == "residual":
        stack = BlockStack(network, family, _residual_end(config, family))
        return policy, ResidualReuse(stack), stack
    return policy, OutputReuse(), None


def _kept_outputs(config: SenCacheConfig, profile: SensitivityProfile) -> int:
    """Outputs before the last one that plans need."""
    fitted = [plan.order for plan in profile.plans if follows_fits(config)]
    return max([config.order, *fitted])


def _planned_by(profile: AnyProfile | None) -> tuple[SensitivityProfile, int]:
    """What cache schedules need: a profile with a drift, and the unit of its time."""
    if not isinstance(profile, SensitivityProfile) or profile.drift is None:
        raise ProfileError(
            'policy="planned" needs a profile with the drift of the output, which this one was '
            "measured without; measure it anew with sencache.calibrate"
        )
    return profile, profile.metadata.num_train_timesteps


def _residual_end(config: SenCacheConfig, family: Family) -> str | None:
    """Where the authors' code ends a residual, if not after the last block."""
    return OFFICIAL_SETTINGS[family.name].residual_end if config.policy == "official" else None
