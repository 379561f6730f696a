"""Ranks of test groups that hold a model; ranks find them by name."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers.models import attention_dispatch

from pipeline.engine import diffusers_engine
from pipeline.parallel.layout import XFUSER
from pipeline.ranks.group_engine import LoadRank
from pipeline.ranks.messages import RankContext
from pipeline.requests.sample_request import SampleRequest
from sencache import networks_of
from tests.pipeline.parallel import xfuser_on_cpu


class DisagreeingRank(LoadRank):
    """A rank 1 that decides the other way round from when it is asked True until asked False."""

    def __call__(self, context: RankContext) -> Any:
        rank: Any = super().__call__(context)
        agreement = rank.engine._role.agreement
        settle = agreement.settle

        def perturbed(facts: torch.Tensor, verdicts: int) -> torch.Tensor:
            facts = facts.clone()
            if context.rank == 1:
                facts[:, verdicts] = 1 - facts[:, verdicts]
            return settle(facts, verdicts)

        def work(payload: Any) -> Any:
            if not isinstance(payload, bool):
                return rank(payload)
            agreement.settle = perturbed if payload else settle
            return None

        return work


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
        texts: Of each rank, how many rows went through its networks, by a mark of their text.
        bands: Of each rank, rows of latents that its decoder took in with each call.
    """

    frames: np.ndarray[Any, Any]
    decisions: list[list[str]]
    degrees: tuple[int, int]
    texts: list[Counter[float]]
    bands: list[set[int]]


def watch(generate: Callable[[], Any]) -> dict[str, Any]:
    """Run an engine's call and keep floats, this rank's decisions, and each clip's first score."""
    seen: dict[str, Any] = {}
    cached, to_uint8 = diffusers_engine.cached, diffusers_engine.to_uint8

    @contextlib.contextmanager
    def watched(*args: Any) -> Iterator[Any]:
        with cached(*args) as handle:
            yield handle
            samples = handle.stats()
            seen["decisions"] = [sample.decisions for sample in samples]
            seen["scores"] = [
                sample.refreshes[0].predicted if sample.refreshes else None for sample in samples
            ]

    def kept(video: torch.Tensor, request: SampleRequest) -> Any:
        seen["frames"] = video.float().numpy()
        return to_uint8(video, request)

    diffusers_engine.cached, diffusers_engine.to_uint8 = watched, kept
    try:
        generate()
    finally:
        diffusers_engine.cached, diffusers_engine.to_uint8 = cached, to_uint8
    return seen


def counted(engine: Any) -> Counter[float]:
    """Count the rows that will go through an engine's networks, by the texts they attend to."""
    counts: Counter[float] = Counter()

    def note(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        text = kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[1]
        counts.update(round(float(row.double().square().mean()), 5) for row in text)

    for network in networks_of(engine._pipe).values():
        blocks = network.blocks if hasattr(network, "blocks") else network.transformer_blocks
        blocks[0].register_forward_pre_hook(note, with_kwargs=True)
    return counts


def decoded(engine: Any) -> set[int]:
    """Rows of the latents that an engine's decoder will take in: the whole, or a rank's band."""
    bands: set[int] = set()
    decoder = engine._pipe.vae.decoder
    layers = getattr(decoder, "decoder", decoder)  # DistVAE's, round the model's own
    layers.conv_in.register_forward_pre_hook(lambda _, args: bands.add(args[0].shape[-2]))
    return bands


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
    """A worker that loads one model after another: ranks start once for all parity tests.

    The latest model is kept, for trials that follow one another with the same.
    """
    dist.init_process_group("cpu:gloo")
    xfuser_on_cpu.install()
    context_parallel_on_cpu()
    from xfuser.core.distributed import parallel_state

    from pipeline.parallel import xfuser

    held: dict[LoadRank, tuple[Any, Counter[float], set[int]]] = {}

    def work(trial: Trial) -> Any:
        load = trial.load
        if load not in held:
            held.clear()
            if load.layout.backend == XFUSER:
                parallel_state.destroy_model_parallel()
            engine = load.load(context)
            held[load] = engine, counted(engine), decoded(engine)
        engine, texts, bands = held[load]
        texts.clear()
        bands.clear()
        seen = watch(lambda: engine.generate(trial.requests))
        everyone: list[Any] = [None] * context.size
        dist.all_gather_object(everyone, (seen["decisions"], texts, bands))
        degrees = xfuser.running_degrees() if load.layout.backend == XFUSER else (0, 0)
        decisions, *counts = (list(part) for part in zip(*everyone, strict=True))
        return Outcome(seen.get("frames"), decisions, degrees, *counts)

    return work
