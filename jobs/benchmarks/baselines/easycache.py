"""EasyCache: predicts the change of the output from the last measured gain of the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from jobs.benchmarks.baselines.base import Decisions, Tunable
from jobs.benchmarks.baselines.gating import CallView, Rule, gated
from sencache.extension import KeptOutput, NetworkCall, RowSelection, row_index


@dataclass(frozen=True)
class EasyCache(Tunable):
    """Adds up k |x_t - x_t+1| / |v_r| until it reaches the threshold; needs no calibration.

    k = |v_r - v_q| / |x_r - x_q| is measured at every computed step r against the computed step q
    before it; norms are mean absolute values. A reused step returns x + (v_r - x_r). The first
    fifth of the steps and the last one compute. The conditional branch decides for both, per
    sample as in a batch of one.

    Attributes:
        threshold: The knob; published 0.05 for Wan 2.1 and 0.025 for HunyuanVideo.
        retention: Share of the steps, from the first, that always compute: 10 of 50 for Wan 2.1,
            5 of 50 for HunyuanVideo.
    """

    threshold: float = 0.05
    retention: float = 0.2

    name = "easycache"
    source = "EasyCache (arXiv 2507.02860), as in H-EmbodVis/EasyCache for Wan 2.1"
    low, high = 0.0, 1000.0

    def tuned(self, knob: float) -> Self:
        """The same method with another value of its knob."""
        return replace(self, threshold=knob)

    @contextmanager
    def applied(self, pipe: Any) -> Iterator[Decisions]:
        """Put the method on a pipeline."""
        with gated(
            pipe, lambda: _Predictor(self), lambda _network, _family: ShiftReuse(), "cond"
        ) as outcome:
            yield outcome


@dataclass
class _Known:
    """Each sample's last computed step, shapes [samples, ...] and [samples].

    Attributes:
        latents, output: x_r and v_r.
        gain: k; NaN where only one step was computed.
    """

    latents: torch.Tensor
    output: torch.Tensor
    gain: torch.Tensor


class _Predictor(Rule):
    def __init__(self, method: EasyCache) -> None:
        self._method = method
        self._known: _Known | None = None
        self._before: torch.Tensor | None = None
        self._sums: torch.Tensor | None = None
        self._computed: list[bool] = []

    def decide(self, view: CallView) -> list[bool]:
        latents = view.by_sample(view.call.latents).float().flatten(1).clone()
        before, self._before = self._before, latents
        forced = view.step < round(self._method.retention * view.steps) or view.last
        if self._known is None or before is None or self._sums is None or forced:
            self._sums = torch.zeros(len(latents), device=latents.device)
            self._computed = [True] * view.samples
            return self._computed
        known = self._known
        moved = (latents - before).abs().mean(1)
        sums = self._sums + known.gain * moved / known.output.abs().mean(1)
        computed = ~(sums < self._method.threshold)  # NaN, where no gain is known, computes
        self._sums = torch.where(computed, 0.0, sums)
        self._computed = [bool(each) for each in computed.tolist()]
        return self._computed

    def learn(self, view: CallView, kept: KeptOutput) -> None:
        latents = self._before
        if latents is None:
            raise RuntimeError("a step was learnt from before it was decided")
        output = view.by_sample(kept.output).float().flatten(1).clone()
        if self._known is None:
            self._known = _Known(latents, output, torch.full_like(latents[:, 0], torch.nan))
            return
        known, ran = self._known, torch.tensor(self._computed, device=latents.device)
        gain = (output - known.output).abs().mean(1) / (latents - known.latents).abs().mean(1)
        self._known = _Known(
            torch.where(ran[:, None], latents, known.latents),
            torch.where(ran[:, None], output, known.output),
            torch.where(ran, gain, known.gain),
        )


class ShiftReuse:
    """Reuses what the network adds to the latents: x + (v_r - x_r), every row from its own r."""

    def evaluate(
        self, network_call: NetworkCall, selection: RowSelection, kept: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """Answer a call; the kept residual is v_r - x_r."""
        call, computed = network_call.call, selection.computed
        if kept is None or kept.residual is None or all(computed):
            answer = network_call.whole()
            output = answer[0].detach().clone()
            return answer, KeptOutput(output, output.float() - call.latents.float())
        output, shift = kept.output, kept.residual
        dtype = output.dtype
        if any(computed):
            rows = [row for row, ran in enumerate(computed) if ran]
            index = row_index(rows, output.device)
            fresh = network_call.rows(index)
            moved = fresh.float() - call.latents.index_select(0, index).float()
            output = output.index_copy(0, index, fresh)
            shift = shift.index_copy(0, index, moved)
        shifted = (call.latents.float() + shift).to(dtype)
        mask = torch.tensor(list(computed), device=output.device)
        mask = mask.view(-1, *[1] * (output.ndim - 1))
        return call.answer(torch.where(mask, output, shifted)), KeptOutput(output, shift)

    def release(self) -> None:
        """Nothing to remove."""
