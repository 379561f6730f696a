"""Ranks of test groups that hold a model; ranks find them by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers.models import attention_dispatch

from pipeline import diffusers_engine
from pipeline.group import RankContext
from pipeline.group.engine import LoadRank
from pipeline.group.layout import XFUSER
from pipeline.request import SampleRequest
from tests import xfuser_on_cpu


class DisagreeingRank(LoadRank):
    """A rank 1 that would always decide the other way round."""

    def __call__(self, context: RankContext) -> Any:
        rank: Any = super().__call__(context)
        agreement = rank.engine._seat.agreement
        settle = agreement.settle

        def perturbed(facts: torch.Tensor, verdicts: int) -> torch.Tensor:
            facts = facts.clone()
            if context.rank == 1:
                facts[:, verdicts] = 1 - facts[:, verdicts]
            return settle(facts, verdicts)

        agreement.settle = perturbed

        return rank


@dataclass(frozen=True)
class Trial:
    """A model to load over the ranks, and what to make with it.

    Attributes:
        load: Which model, and how it is split.
        requests: One batch.
    """

    load: LoadRank
    requests: Sequence[SampleRequest]


@dataclass
class Outcome:
    """What came of a trial.

    Attributes:
        frames: Of rank 0, before they are rounded, [clips, frames, 3, height, width].
        decisions: Of each rank, one text per clip.
        degrees: Ulysses and ring degree that xfuser ran with; (0, 0) without it.
    """

    frames: np.ndarray[Any, Any]
    decisions: list[list[str]]
    degrees: tuple[int, int]


def watch(generate: Callable[[], Any]) -> dict[str, Any]:
    """Run an engine's call and keep floats and this rank's decisions."""
    seen: dict[str, Any] = {}
    cached, to_uint8 = diffusers_engine.cached, diffusers_engine.to_uint8

    @contextlib.contextmanager
    def watched(*args: Any) -> Iterator[Any]:
        with cached(*args) as handle:
            yield handle
            seen["decisions"] = [sample.decisions for sample in handle.stats()]

    def kept(video: torch.Tensor, request: SampleRequest) -> Any:
        seen["frames"] = video.float().numpy()
        return to_uint8(video, request)

    diffusers_engine.cached, diffusers_engine.to_uint8 = watched, kept
    try:
        generate()
    finally:
        diffusers_engine.cached, diffusers_engine.to_uint8 = cached, to_uint8
    return seen


def context_parallel_on_cpu() -> None:
    """Give diffusers' ring the attention of a CPU that also returns logarithms of sums."""

    def flash(ctx: Any, query: Any, key: Any, value: Any, *rest: Any, **_: Any) -> Any:
        *_, with_sums = rest
        heads_first = (each.transpose(1, 2) for each in (query, key, value))
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*heads_first)
        out, lse = out.transpose(1, 2).contiguous(), lse.transpose(1, 2).contiguous()
        return (out, lse) if with_sums else out

    attention_dispatch._native_flash_attention_forward_op = flash


def trials(context: RankContext) -> Any:
    """A worker that loads one model after another: ranks start once for all parity tests."""
    dist.init_process_group("cpu:gloo")
    xfuser_on_cpu.install()
    context_parallel_on_cpu()
    from xfuser.core.distributed import parallel_state

    from pipeline.group import xfuser

    def work(trial: Trial) -> Any:
        if trial.load.layout.backend == XFUSER:
            parallel_state.destroy_model_parallel()
        engine = trial.load.load(context)
        seen = watch(lambda: engine.generate(trial.requests))
        everyone: list[Any] = [None] * context.size
        dist.all_gather_object(everyone, seen["decisions"])
        degrees = xfuser.running_degrees() if trial.load.layout.backend == XFUSER else (0, 0)
        engine.close()
        return Outcome(seen.get("frames"), everyone, degrees)

    return work
