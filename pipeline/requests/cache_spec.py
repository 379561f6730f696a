"""Between `sencache` and this pipeline: a request's cache settings in, a row's cache struct out.

The only module that translates the two vocabularies; it uses public names of the library alone and
knows nothing of models, files or Ray. Names are taken from the library where they are used, for
some of them load torch.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sencache
from pipeline.errors import UserError
from pipeline.requests.sample_request import CacheSpec, canonical_json

if TYPE_CHECKING:
    from pipeline.config.sections import CacheConfig
    from sencache import (
        Agreement,
        SampleStats,
        SenCacheConfig,
        SenCacheHandle,
        SensitivityProfile,
    )


def sencache_config(config: CacheConfig) -> SenCacheConfig:
    """A run's cache settings as those of the library."""
    # Fields that are unset belong to another policy.
    other = {"quality", "profile"}
    return sencache.SenCacheConfig(**config.model_dump(exclude=other, exclude_none=True))


def to_spec(config: SenCacheConfig, profile: SensitivityProfile | None) -> CacheSpec:
    """What of a cache decides pixels, as a request's identity holds it.

    Settings that make the same clip give the same spec: without any reuse that is `CacheSpec()`,
    whatever the thresholds say.

    Raises:
        ValueError: Steps may be reused but there is no profile.
    """
    params = dict(config.identity(profile))
    policy, profile_hash = str(params.pop("policy")), str(params.pop("profile", ""))
    return CacheSpec(policy, canonical_json(params), profile_hash)


def from_spec(spec: CacheSpec, num_inference_steps: int, guidance_scale: float) -> SenCacheConfig:
    """The settings that `to_spec` was made from, for a run as a request wants it.

    Raises:
        ValueError: The spec names a policy or parameter that this version does not know.
    """
    fields = {**json.loads(spec.params), "policy": spec.policy}
    if "row_buckets" in fields:
        fields["row_buckets"] = tuple(fields["row_buckets"])
    fields["num_inference_steps"] = num_inference_steps
    fields["guidance"] = guidance_scale > 1.0
    try:
        return sencache.SenCacheConfig(**fields)
    except TypeError as error:
        raise ValueError(f"cache parameters {spec.params} are not known: {error}") from error


@contextlib.contextmanager
def cached(
    pipe: Any,
    config: SenCacheConfig,
    profile: SensitivityProfile | None,
    agreement: Agreement | None = None,
) -> Iterator[SenCacheHandle]:
    """Put a cache on every network of a pipeline, and take it off again whatever happens.

    Args:
        pipe: A diffusers pipeline.
        config: Policy and parameters.
        profile: Sensitivities, if steps may be reused.
        agreement: Of the ranks that run the networks together.

    Yields:
        The cache, for its statistics.

    Raises:
        UserError: `sencache` does not know the network, or the profile belongs to another one.
    """
    try:
        handle = sencache.apply_sencache(pipe, config, profile, agreement=agreement)
    except (sencache.UnknownTransformerError, sencache.ProfileError) as error:
        raise UserError(str(error)) from error
    try:
        yield handle
    finally:
        sencache.remove_sencache(pipe)


def planned_nfe(budget: float, steps: int) -> tuple[int, int]:
    """Fewest and most steps that a planned run of so many steps computes.

    They are the same but for very small budgets, where no plan has so few: how few it can have
    then depends on whether and where the pipeline changes networks.
    """
    if steps < 3:  # nothing to plan
        return steps, steps
    computed = sencache.computed_steps(budget, steps)
    cuts = ((), *((cut,) for cut in range(1, steps - 1)))
    least = [sencache.least_computed(steps, each) for each in cuts]
    return max(computed, least[0]), max(computed, *least)


def check_gate(gate: int, budget: float, steps: int) -> None:
    """Make sure that a budget leaves room for a gate, where there is one.

    Raises:
        ValueError: It does not; the message says which numbers would do.
    """
    if gate and budget < 1.0:
        sencache.check_room(gate, sencache.computed_steps(budget, steps), steps)


def cache_struct(stats: SampleStats, steps: int, disagreements: int = 0) -> dict[str, Any]:
    """What the cache did for one sample, as the row's `cache` struct.

    Args:
        stats: Of the sample, over all networks of the pipeline.
        steps: Steps of the run.
        disagreements: Decisions of the engine's call in which some rank's own opinion was another
            than the one that counted.

    Raises:
        RuntimeError: The statistics do not cover the run: they would tell of another one.
    """
    if len(stats.decisions) != steps:
        raise RuntimeError(f"cache statistics cover {len(stats.decisions)} of {steps} steps")
    return {
        "policy": stats.policy,
        "profile": stats.profile,
        "nfe": stats.nfe,
        "reused": stats.reused,
        "decisions": stats.decisions,
        "predicted_error": stats.predicted_error,
        "actual_error": stats.actual_error,
        "max_score": stats.max_score,
        "disagreements": disagreements,
    }
