"""Between `sencache` and this pipeline: a request's cache settings in, a row's cache struct out.

The only module that translates the two vocabularies; it uses the library's public API alone and
knows nothing of models, files or Ray.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.request import CacheSpec, canonical_json
from sencache import (
    SampleStats,
    SenCacheConfig,
    SensitivityProfile,
    UnknownTransformerError,
    apply_sencache,
    remove_sencache,
)

Stats = Callable[[], list[SampleStats]]
"""Gives what happened to each sample of the batch on one network."""


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


def from_spec(spec: CacheSpec, num_inference_steps: int) -> SenCacheConfig:
    """The settings that `to_spec` was made from, for a run of so many steps.

    Raises:
        ValueError: The spec names a policy or parameter that this version does not know.
    """
    fields = {**json.loads(spec.params), "policy": spec.policy}
    try:
        return SenCacheConfig(**fields, num_inference_steps=num_inference_steps)
    except TypeError as error:
        raise ValueError(f"cache parameters {spec.params} are not known: {error}") from error


@contextlib.contextmanager
def cached(
    networks: Sequence[torch.nn.Module],
    config: SenCacheConfig,
    profile: SensitivityProfile | None,
    rows: int,
) -> Iterator[list[Stats]]:
    """Put a cache on every network of a pipeline, and take it off again whatever happens.

    A network that `sencache` does not know can still run uncached: its steps are counted.

    Args:
        networks: Transformers of the pipeline, in the order in which they run.
        config: Policy and parameters.
        profile: Sensitivities, if steps may be reused.
        rows: Samples in the batch.

    Yields:
        One source of statistics per network.

    Raises:
        UserError: Steps may be reused on a network that `sencache` does not know, or the profile
            belongs to another one.
    """
    with contextlib.ExitStack() as stack:
        sources: list[Stats] = []
        for network in networks:
            try:
                handle = apply_sencache(network, config, profile)
            except UnknownTransformerError as error:
                if config.may_reuse:
                    raise UserError(f"{error}; --cache.policy none runs without a cache") from error
                counter = _CallCounter(rows, config.num_inference_steps or 0)
                hook = network.register_forward_pre_hook(counter)
                stack.callback(hook.remove)
                sources.append(counter.stats)
            else:
                stack.callback(remove_sencache, network)
                sources.append(handle.stats)
        yield sources


class _CallCounter:
    """Counts the calls of a network that computes every step.

    A step makes one call, or one per guidance branch. Timesteps do not tell steps apart: rounded to
    bfloat16, neighbours can be equal.
    """

    def __init__(self, rows: int, steps: int) -> None:
        self._rows, self._steps, self._calls = rows, steps, 0

    def __call__(self, network: torch.nn.Module, args: tuple[Any, ...]) -> None:
        self._calls += 1

    def stats(self) -> list[SampleStats]:
        if not self._calls or self._calls % self._steps:
            raise RuntimeError(
                f"the network was called {self._calls} times in a run of {self._steps} steps"
            )
        one = SampleStats("none", "", self._steps, 0, "C" * self._steps, None, None, 0.0)
        return [one] * self._rows


def cache_struct(parts: Sequence[SampleStats], steps: int) -> dict[str, Any]:
    """Join what each network of a pipeline did for one sample into the row's `cache` struct.

    Wan 2.2 has two networks that share the steps of a run; any other model has one.

    Args:
        parts: Statistics of the networks that ran, in the order in which they ran.
        steps: Steps of the run.

    Raises:
        RuntimeError: The statistics do not cover the run: they would tell of another one.
    """
    decisions = "".join(part.decisions for part in parts)
    if len(decisions) != steps:
        raise RuntimeError(f"cache statistics cover {len(decisions)} of {steps} steps")
    return {
        "policy": parts[0].policy,
        "profile": parts[0].profile,
        "nfe": sum(part.nfe for part in parts),
        "reused": sum(part.reused for part in parts),
        "decisions": decisions,
        "predicted_error": _mean([(part.predicted_error, part.nfe - 1) for part in parts]),
        "actual_error": _mean([(part.actual_error, part.nfe - 1) for part in parts]),
        "max_score": max(part.max_score for part in parts),
    }


def _mean(parts: Sequence[tuple[float | None, int]]) -> float | None:
    """Mean over the refreshes of all networks; None (a null in the row) where none was measured."""
    known = [(value, n) for value, n in parts if value is not None and math.isfinite(value) and n]
    total = sum(n for _, n in known)
    return sum(value * n for value, n in known) / total if total else None
