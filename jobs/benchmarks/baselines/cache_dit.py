"""cache-dit from PyPI (an extra of the benchmarks), unchanged, at an exact number of steps.

Its dual block cache gets a mask of steps, which fixes the budget, and one of its calibrators, which
forecasts what the blocks add to the tokens. The library insists on one block that runs at every
step; the default of 8 would leave a small network nothing to skip. That block is not counted as
work, in favour of cache-dit: of 40 blocks it is a fortieth, in a small network more.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from diffusers import WanPipeline

from jobs.benchmarks.baselines.base import Decisions, Scheduled, UnsupportedError
from jobs.benchmarks.baselines.gating import family_or_refuse
from jobs.benchmarks.baselines.metering import blocks_of, untouched
from sencache import networks_of

CALIBRATORS = ("taylor-1", "taylor-2", "dmd", "foca")


@dataclass(frozen=True)
class CacheDit(Scheduled):
    """The dual block cache with a mask: the first steps, then evenly spaced ones to the last.

    Attributes:
        calibrator: One of :data:`CALIBRATORS`, or "none" to hold.
        warmup: Steps at the start that are computed, where the budget has room for them.
        mask: 1 for each step that is computed, 0 for the others.
    """

    calibrator: str = "taylor-1"
    warmup: int = 3
    mask: tuple[int, ...] = ()

    name = "cache-dit"
    source = "cache-dit 1.5 (PyPI): DBCache, steps_computation_mask, policy static"

    def budgeted(self, computed: int, steps: int) -> Self:
        """The same method with `computed` of `steps` steps."""
        first = min(self.warmup, computed - 1)
        evenly = np.linspace(first, steps - 1, computed - first).round().astype(int).tolist()
        chosen = {*range(first), *evenly}
        if computed < 2 or len(chosen) != computed:
            raise UnsupportedError(f"{self.name} has no mask of {computed} of {steps} steps")
        return replace(self, mask=tuple(int(step in chosen) for step in range(steps)))

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline."""
        library = _library()
        if not isinstance(pipe, WanPipeline):
            raise UnsupportedError("cache-dit is compared on pipelines with a call per branch only")
        log = _CallLog()
        with ExitStack() as stack:
            for network in networks_of(pipe).values():
                last = list(blocks_of(network, family_or_refuse(network)).values())[-1]
                begin = network.register_forward_pre_hook(log.begin, with_kwargs=True)
                stack.callback(begin.remove)
                stack.callback(last.register_forward_pre_hook(log.compute).remove)
                stack.enter_context(untouched(network))
            try:
                library.enable_cache(
                    pipe,
                    cache_config=library.DBCacheConfig(
                        Fn_compute_blocks=1,
                        Bn_compute_blocks=0,
                        num_inference_steps=len(self.mask),
                        steps_computation_mask=list(self.mask),
                        steps_computation_policy="static",
                    ),
                    calibrator_config=self._calibrator_config(library),
                )
            except (ValueError, AssertionError) as error:
                raise UnsupportedError(f"cache-dit: {error}") from error
            stack.callback(library.disable_cache, pipe)
            yield log.decisions

    def _calibrator_config(self, library: Any) -> Any:
        kind, _, order = self.calibrator.partition("-")
        if kind == "taylor":
            return library.TaylorSeerCalibratorConfig(taylorseer_order=int(order))
        return {
            "none": lambda: None,
            "dmd": library.DMDCalibratorConfig,
            "foca": library.FoCaCalibratorConfig,
        }[kind]()


@dataclass
class _CallLog:
    """Which steps of the latest run computed, as the last block saw it.

    Attributes:
        steps: One letter per step.
        rows: Samples of the run.
        time: Timestep of the latest call.
    """

    steps: list[str] = field(default_factory=list)
    rows: int = 0
    time: float = -math.inf

    def begin(self, _network: torch.nn.Module, _args: Any, kwargs: Any) -> None:
        """Note a call of a network."""
        time = float(kwargs["timestep"].flatten()[0])
        if time > self.time:
            self.steps, self.rows = [], len(kwargs["hidden_states"])
        if time != self.time:
            self.steps.append("R")
        self.time = time

    def compute(self, _block: torch.nn.Module, _args: Any) -> None:
        """Note that the last block runs in the latest call."""
        self.steps[-1] = "C"

    def decisions(self) -> list[str]:
        """Per sample, one character per step."""
        return ["".join(self.steps)] * self.rows


def _library() -> Any:
    try:
        library = importlib.import_module("cache_dit")
    except ImportError as error:
        raise UnsupportedError("cache-dit is not installed: pip install cache-dit") from error
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] == "cache_dit":  # it tells every step of its set-up
            logging.getLogger(name).setLevel(logging.ERROR)
    return library
