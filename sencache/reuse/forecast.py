"""Reuse by forecast: a reused step gets a sum of earlier outputs, as a cache schedule says.

The weights of the sums are those of `sencache.schedules.weights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from sencache.hook.call import row_index, row_rms
from sencache.reuse.base import KeptOutput, NetworkCall, RowGroup, RowSelection
from sencache.schedules.weights import Forecast


class ForecastReuse:
    """Returns sums of the last computed outputs, as the schedules of the rows say.

    Computes sums in float32, and keeps outputs in the dtype of the network.
    """

    def __init__(self, order: int, *, in_float32: bool = False) -> None:
        """Set the number of kept outputs.

        Args:
            order: Outputs before the last one that a forecast uses.
            in_float32: Give every output to the sampler in float32. Rounding a forecast to bfloat16
                costs about as much as the forecast itself. Computed outputs are given likewise, so
                that a row does not depend on what its neighbours do. Else in the network's dtype.
        """
        self._order, self._in_float32 = order, in_float32

    def evaluate(
        self, network_call: NetworkCall, selection: RowSelection, kept: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """Answer a call with computed outputs, repaired ones and forecasts."""
        if len(selection.groups) > 1 or (kept is not None and kept.groups):
            return self._by_groups(network_call, selection, kept)
        (group,) = selection.groups
        call = network_call.call
        if kept is not None and not group.computed:
            given = self._given(_forecast(group.forecast, kept), kept.output.dtype)
            return call.answer(given), kept.unchanged(selection)
        answer = network_call.whole()
        output = call.output(answer).detach()
        after, repaired = self._after(output.clone(), selection, group, kept)
        if repaired is None and not self._in_float32:
            return answer, after
        return call.answer(
            self._given(output if repaired is None else repaired, output.dtype)
        ), after

    def release(self) -> None:
        """Nothing to remove."""

    def _by_groups(
        self, network_call: NetworkCall, selection: RowSelection, kept: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """The same for rows of several schedules; the rows that compute share one network call."""
        groups, device = selection.groups, network_call.call.latents.device
        index = [row_index(group.rows, device) for group in groups]
        before: Sequence[KeptOutput | None] = [None] * len(groups)
        if kept is not None:
            before = kept.groups or [_rows_of(kept, rows) for rows in index]
        outputs = _outputs(network_call, groups)
        answers, after = [], []
        for group, output, own in zip(groups, outputs, before, strict=True):
            if output is None:
                assert own is not None  # noqa: S101 - a row without an output computes
                answers.append(self._given(_forecast(group.forecast, own), own.output.dtype))
                after.append(own.unchanged(selection))
            else:
                now, repaired = self._after(output, selection, group, own)
                given = output if repaired is None else repaired
                answers.append(self._given(given, output.dtype))
                after.append(now)
        changes = [each.change for each in after if each.change is not None]
        change = _scattered(index, changes) if len(changes) == len(groups) else None
        empty = answers[0].new_empty(0)
        return network_call.call.answer(_scattered(index, answers)), KeptOutput(
            empty, step=selection.step, change=change, groups=tuple(after)
        )

    def _given(self, output: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """An output as the sampler gets it.

        Args:
            output: Computed, or a sum.
            dtype: Of the network's outputs.
        """
        return output.float() if self._in_float32 else output.to(dtype)

    def _after(
        self,
        output: torch.Tensor,
        selection: RowSelection,
        group: RowGroup,
        kept: KeptOutput | None,
    ) -> tuple[KeptOutput, torch.Tensor | None]:
        """What is kept after an output, and what the sampler gets instead of it, if anything."""
        change = None
        earlier: dict[int, torch.Tensor] = {}
        if kept is not None:
            if selection.measured:
                change = row_rms(output.float() - _forecast(group.check, kept))
            earlier = {**kept.earlier, kept.step: kept.output}
        now = KeptOutput(output, earlier=earlier, step=selection.step, change=change)
        given = None if group.forecast is None else _forecast(group.forecast, now)
        latest = sorted(earlier)[len(earlier) - self._order :] if self._order else []
        return replace(now, earlier={step: earlier[step] for step in latest}), given


def _outputs(network_call: NetworkCall, groups: Sequence[RowGroup]) -> list[torch.Tensor | None]:
    """The network's output for the rows of each group; None for those that do not compute."""
    running = sorted(row for group in groups if group.computed for row in group.rows)
    if not running:
        return [None] * len(groups)
    device = network_call.call.latents.device
    if len(running) == network_call.call.rows:
        output = network_call.call.output(network_call.whole()).detach()
    else:
        output = network_call.rows(row_index(running, device))
    place = {row: number for number, row in enumerate(running)}
    return [
        output.index_select(0, row_index([place[row] for row in group.rows], device))
        if group.computed
        else None
        for group in groups
    ]


def _rows_of(kept: KeptOutput, index: torch.Tensor) -> KeptOutput:
    """What is kept of some rows."""
    return replace(
        kept,
        output=kept.output.index_select(0, index),
        earlier={step: output.index_select(0, index) for step, output in kept.earlier.items()},
    )


def _scattered(index: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Values of all rows from those of each group."""
    rows = sum(len(each) for each in index)
    whole = values[0].new_empty((rows, *values[0].shape[1:]))
    for each, value in zip(index, values, strict=True):
        whole.index_copy_(0, each, value)
    return whole


def _forecast(forecast: Forecast | None, kept: KeptOutput) -> torch.Tensor:
    """A sum of outputs in float32; the last output without a forecast, or without an anchor.

    An anchor is missing where a context joined the run late, such as guidance that began in its
    middle.
    """
    outputs = {**kept.earlier, kept.step: kept.output}
    if forecast is None or not all(step in outputs for step in forecast.anchors):
        return kept.output.to(torch.float32, copy=True)
    total = torch.zeros_like(kept.output, dtype=torch.float32)
    for step, weight in zip(forecast.anchors, forecast.weights, strict=True):
        total.add_(outputs[step], alpha=weight)
    return total
