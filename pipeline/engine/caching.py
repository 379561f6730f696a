"""The cache of one engine call: applying it to a pipeline, and its statistics as a row's struct."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sencache
from pipeline.errors import UserError

if TYPE_CHECKING:
    from sencache import (
        SampleStats,
        SenCacheConfig,
        SenCacheHandle,
        SensitivityProfile,
    )
    from sencache.extension import Agreement


@contextlib.contextmanager
def cached(
    pipe: Any,
    config: SenCacheConfig,
    profile: SensitivityProfile | None,
    agreement: Agreement | None = None,
) -> Iterator[SenCacheHandle]:
    """Apply a cache to every network of a pipeline within the block.

    Args:
        pipe: A diffusers pipeline.
        config: Policy and parameters.
        profile: Of the model, if steps may be reused.
        agreement: Between the ranks that run the networks together.

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


def cache_struct(
    stats: SampleStats, steps: int | None, disagreements: int = 0, profile_source: str = ""
) -> dict[str, Any]:
    """Describe what the cache did for one sample, as the row's `cache` struct.

    Args:
        stats: Of the sample, over all networks of the pipeline.
        steps: Steps of the run; None if the call may make another number than it is asked for.
        disagreements: Decisions of the engine's call in which some rank would have decided
            differently from the group.
        profile_source: Where the profile is from (`pipeline.models.profile.source_of`).

    Raises:
        RuntimeError: The statistics do not cover the run, so they belong to another one.
    """
    if steps is not None and len(stats.decisions) != steps:
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
        "profile_source": profile_source if stats.profile else "",
        "promised_error": stats.promised_error,
    }
