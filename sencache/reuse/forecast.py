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

    Computes sums in float32 and returns them in the dtype of the network.
    """

    def __init__(self, order: int) -> None:
        """Set the number of kept outputs.

        Args:
            order: Outputs before the last one that a forecast uses.
        """
        self._order = order

    def evaluate(
        self, network_call: NetworkCall, selection: RowSelection, kept: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """Answer a call with computed outputs, repaired ones and forecasts."""
        if len(selection.groups) > 1 or (kept is not None and kept.groups):
            return self._by_groups(network_call, selection, kept)
        (group,) = selection.groups
        call = network_call.call
        if kept is not None and not group.computed:
            return call.answer(_forecast(group.forecast, kept)), kept.unchanged(selection)
        answer = network_call.whole()
        after, given = self._after(call.output(answer).detach().clone(), selection, group, kept)
        return (answer if given is None else call.answer(given)), after

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
                answers.append(_forecast(group.forecast, own))
                after.append(own.unchanged(selection))
            else:
                now, given = self._after(output, selection, group, own)
                answers.append(output if given is None else given)
                after.append(now)
        changes = [each.change for each in after if each.change is not None]
        change = _scattered(index, changes) if len(changes) == len(groups) else None
        empty = answers[0].new_empty(0)
        return network_call.call.answer(_scattered(index, answers)), KeptOutput(
            empty, step=selection.step, change=change, groups=tuple(after)
        )

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
                change = row_rms(output.float() - _forecast(group.check, kept).float())
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
    """A sum of outputs; the last output without a forecast, or where an anchor is missing.

    An anchor is missing where a context joined the run late, such as guidance that began in its
    middle.
    """
    outputs = {**kept.earlier, kept.step: kept.output}
    if forecast is None or not all(step in outputs for step in forecast.anchors):
        return kept.output.clone()
    total = torch.zeros_like(kept.output, dtype=torch.float32)
    for step, weight in zip(forecast.anchors, forecast.weights, strict=True):
        total.add_(outputs[step], alpha=weight)
    return total.to(kept.output.dtype)
