"""A cache on a tiny pipeline, and what shows which calls of its network were computed."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch

from sencache import SenCacheConfig, SenCacheHandle, apply_sencache, remove_sencache
from sencache.families.registry import family_of
from tests.sencache.support.tiny_pipelines import (
    PIPELINES,
    TinyPipeline,
    fitting_profile,
    tiny_param,
)

SEEDS = [0, 1, 2, 3]
GUIDED = [tiny for tiny in PIPELINES if tiny.guidance != "none"]
GUIDANCE = pytest.mark.parametrize(
    ("tiny", "guidance"),
    [tiny_param(tiny, True, name=f"{tiny.name}-guided") for tiny in PIPELINES]
    + [
        tiny_param(
            tiny, False, name=f"{tiny.name}-unguided", quick=tiny.name == "wan", by_network=True
        )
        for tiny in GUIDED
    ],
)
"""Every pipeline with guidance; without, one of every network, and the others as variants."""

EVERY_ONE = pytest.mark.parametrize("tiny", [tiny_param(tiny) for tiny in PIPELINES])


@functools.cache
def made(tiny_name: str) -> Any:
    return next(tiny for tiny in PIPELINES if tiny.name == tiny_name).make()


def networks(tiny: TinyPipeline, pipe: Any) -> list[Any]:
    return [getattr(pipe, name) for name in tiny.networks]


def apply(pipe: Any, epsilon: float = 1e9, **options: Any) -> SenCacheHandle:
    """Put a cache on a pipeline or a network, a new one if there is one already."""
    remove_sencache(pipe)
    network = pipe if isinstance(pipe, torch.nn.Module) else pipe.transformer
    config = SenCacheConfig(
        **{"epsilon": epsilon, "strict_fraction": 0.0, "max_reuse": 2} | options
    )
    profile = fitting_profile(pipe, network) if config.may_reuse else None
    return apply_sencache(pipe, config, profile)


def decisions(handle: SenCacheHandle) -> list[str]:
    return [stats.decisions for stats in handle.stats()]


@contextmanager
def counted(tiny: TinyPipeline, pipe: Any) -> Iterator[list[int]]:
    """Rows of every call that the first block of a network really computes."""
    rows: list[int] = []

    def count(_module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        rows.append(len(args[0] if args else kwargs["hidden_states"]))

    with ExitStack() as stack:
        for network in networks(tiny, pipe):
            block = getattr(network, family_of(network).blocks[0])[0]
            hook = block.norm1.register_forward_pre_hook(count, with_kwargs=True)
            stack.callback(hook.remove)
        yield rows


def calls_of_a_step(tiny: TinyPipeline, samples: int, guidance: bool) -> list[int]:
    """Rows of each network call of a step in which `samples` compute."""
    if not guidance or tiny.guidance == "none":
        return [samples]
    return [samples, samples] if tiny.guidance == "two calls" else [2 * samples]


def recorded_call(tiny: TinyPipeline, pipe: Any, guidance: bool = True) -> dict[str, Any]:
    """Arguments of the first network's first call in a run of three rows."""
    calls: list[dict[str, Any]] = []
    hook = networks(tiny, pipe)[0].register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append(dict(kwargs)), with_kwargs=True
    )
    tiny.run(pipe, [0, 1, 2], steps=2, guidance=guidance)
    hook.remove()
    return calls[0]


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in units of the rms of what was wanted."""
    return ((got - wanted).abs().max() / wanted.float().square().mean().sqrt()).item()
