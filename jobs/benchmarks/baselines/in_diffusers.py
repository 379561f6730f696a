"""The caches of diffusers 0.42, unchanged: one decision for a whole batch.

Their cost is metered (:mod:`jobs.benchmarks.baselines.metering`): a step counts as reused if its
last block did not run, and :func:`~jobs.benchmarks.baselines.nfe_of` gives the share of the work
that did.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from diffusers import (
    FirstBlockCacheConfig,
    MagCacheConfig,
    SeaCacheConfig,
    TaylorSeerCacheConfig,
    WanPipeline,
)
from diffusers.hooks._common import _ATTENTION_CLASSES

from jobs.benchmarks.baselines.base import Decisions, Tunable, UnsupportedError
from jobs.benchmarks.baselines.gating import family_or_refuse
from jobs.benchmarks.baselines.metering import Meter, MeterLog, blocks_of, untouched
from sencache import Family, networks_of


class InDiffusers(Tunable):
    """A cache of diffusers.

    Attributes:
        attention: Whether it skips attention within blocks, not blocks.
    """

    attention: ClassVar[bool] = False

    @abstractmethod
    def config(self, pipe: Any, network: torch.nn.Module, family: Family) -> Any:
        """What `enable_cache` gets.

        Raises:
            UnsupportedError: The cache does not work on this network or in this pipeline.
        """

    def check(self, context: str, branches: int) -> None:
        """Check the first call of a context in a run.

        Args:
            context: Its name; "" outside of one.
            branches: Guidance branches in the call.

        Raises:
            UnsupportedError: The cache would not do what it should.
        """
        return

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline."""
        log = MeterLog()
        with ExitStack() as stack:
            for number, network in enumerate(networks_of(pipe).values()):
                family = family_or_refuse(network)
                config = self.config(pipe, network, family)
                parts = (_attentions if self.attention else blocks_of)(network, family)
                meter = Meter(pipe, network, number, family, parts, log, self.check)
                stack.enter_context(untouched(network))
                stack.enter_context(meter.attached())
                cached: Any = network  # of diffusers' CacheMixin, as those of all known families
                try:
                    cached.enable_cache(config)
                except ValueError as error:
                    raise UnsupportedError(str(error)) from error
                stack.callback(cached.disable_cache)
            yield log.outcome()


@dataclass(frozen=True)
class FirstBlockCache(InDiffusers):
    """Skips all blocks but the first while the first one's residual has changed little.

    The first block runs at every step, and the branches of two-call guidance decide apart.

    Attributes:
        threshold: The knob.
    """

    threshold: float = 0.05

    name = "first-block"
    source = "First Block Cache (ParaAttention), diffusers 0.42 FirstBlockCacheConfig"
    low, high = 0.0, 100.0

    def tuned(self, knob: float) -> Self:
        """The same method with another value of its knob."""
        return replace(self, threshold=knob)

    def config(self, pipe: Any, network: torch.nn.Module, family: Family) -> Any:
        """What `enable_cache` gets."""
        _refuse_hints(network, family)
        return FirstBlockCacheConfig(threshold=self.threshold)


@dataclass(frozen=True)
class DiffusersMagCache(InDiffusers):
    """MagCache of diffusers: one table for both branches, and a threshold that may be reached.

    Attributes:
        ratios: Of each step, as :class:`jobs.benchmarks.baselines.MagCache` fits them for one
            context.
        steps: Steps of the run.
        threshold: The knob.
        max_skip: Most skips in a row.
        retention: Share of the steps, from the first, that always compute.
    """

    ratios: tuple[float, ...] = field(repr=False)
    steps: int
    threshold: float = 0.06
    max_skip: int = 4
    retention: float = 0.2

    name = "diffusers-magcache"
    source = "MagCache (arXiv 2506.09045), diffusers 0.42 MagCacheConfig"
    low, high = 0.0, 100.0

    def tuned(self, knob: float) -> Self:
        """The same method with another value of its knob."""
        return replace(self, threshold=knob)

    def config(self, pipe: Any, network: torch.nn.Module, family: Family) -> Any:
        """What `enable_cache` gets."""
        _refuse_hints(network, family)
        return MagCacheConfig(
            threshold=self.threshold,
            max_skip_steps=self.max_skip,
            retention_ratio=self.retention,
            num_inference_steps=self.steps,
            mag_ratios=list(self.ratios),
        )


@dataclass(frozen=True)
class TaylorSeer(InDiffusers):
    """Computes every n-th step and extrapolates what is added to the latents over step indices.

    In lite mode, which alone skips whole blocks: the patterns of the full mode match no module of
    Wan, and leave feed-forwards running elsewhere. Factors in float32 instead of bfloat16.

    Attributes:
        interval: The knob, rounded: steps from one computed to the next.
        order: Of the extrapolation.
        warmup: Steps at the start that always compute.
        steps: Steps of the run, to compute the last one too; None leaves it to the interval.
    """

    interval: float = 5.0
    order: int = 1
    warmup: int = 3
    steps: int | None = None

    name = "taylorseer"
    source = "TaylorSeer (arXiv 2503.06923), diffusers 0.42 TaylorSeerCacheConfig, lite mode"
    low, high = 1.0, 50.0

    def tuned(self, knob: float) -> Self:
        """The same method with another value of its knob."""
        return replace(self, interval=knob)

    def config(self, pipe: Any, network: torch.nn.Module, family: Family) -> Any:
        """What `enable_cache` gets."""
        return TaylorSeerCacheConfig(
            cache_interval=max(1, round(self.interval)),
            disable_cache_before_step=self.warmup,
            disable_cache_after_step=None if self.steps is None else self.steps - 1,
            max_order=self.order,
            taylor_factors_dtype=torch.float32,
            use_lite_mode=True,
        )


@dataclass(frozen=True)
class SeaCache(InDiffusers):
    """Adds up changes of the spectrally filtered latents; extrapolates the blocks' residual.

    Attributes:
        threshold: The knob.
        max_consecutive: Most reuses in a row; 0 for no limit. Published: 2.
    """

    threshold: float = 0.25
    max_consecutive: int = 2

    name = "seacache"
    source = "SeaCache (arXiv 2602.18993), diffusers 0.42 SeaCacheConfig"
    low, high = 0.0, 1000.0

    def tuned(self, knob: float) -> Self:
        """The same method with another value of its knob."""
        return replace(self, threshold=knob)

    def config(self, pipe: Any, network: torch.nn.Module, family: Family) -> Any:
        """What `enable_cache` gets."""
        _refuse_hints(network, family)
        settings: Any = network.config
        if not isinstance(pipe, WanPipeline) or settings.in_channels != settings.out_channels:
            raise UnsupportedError(
                "SeaCache of diffusers computes every step unless the pipeline tells it sigma and "
                "the network's input is all noise; of the known ones that is Wan text to video"
            )
        return SeaCacheConfig(threshold=self.threshold, max_consecutive_cached=self.max_consecutive)


def _attentions(network: torch.nn.Module, family: Family) -> Mapping[str, torch.nn.Module]:
    return {
        f"{name}.{inner}": module
        for name, block in blocks_of(network, family).items()
        for inner, module in block.named_modules()
        if isinstance(module, _ATTENTION_CLASSES)
    }


def _refuse_hints(network: torch.nn.Module, family: Family) -> None:
    if family.hints is not None and hasattr(network, family.hints.blocks):
        raise UnsupportedError(
            f"{type(network).__name__} adds hints between its blocks, also behind those that a "
            "cache of diffusers skips"
        )
