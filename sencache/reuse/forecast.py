"""Answering calls with sums of earlier outputs, as a plan says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from sencache.hook.call import row_index
from sencache.policies.rule import row_rms
from sencache.reuse.base import (
    Evaluation,
    KeptOutput,
    NetworkCall,
    RowGroup,
    unchanged,
)
from sencache.schedules.weights import Forecast


class ForecastReuse:
    """Answers with sums of the last computed outputs, as the plans of the rows say.

    Sums are in float32 and come back in the dtype of the network.
    """

    def __init__(self, order: int) -> None:
        """Keep outputs.

        Args:
            order: Outputs before the last one that a forecast is made from.
        """
        self._order = order

    def evaluate(
        self, asked: NetworkCall, work: Evaluation, held: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """See :class:`Reuse`."""
        if len(work.parts) > 1 or (held is not None and held.parts):
            return self._by_parts(asked, work, held)
        (part,) = work.parts
        if held is not None and not part.computed:
            return asked.call.answer(_mixed(part.mix, held)), unchanged(work, held)
        answer = asked.whole()
        held, given = self._taken(answer[0].detach().clone(), work, part, held)
        return (answer if given is None else asked.call.answer(given)), held

    def release(self) -> None:
        """Nothing was put on."""

    def _by_parts(
        self, asked: NetworkCall, work: Evaluation, held: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """The same for rows that follow plans of their own: the rows that compute go together."""
        parts, device = work.parts, asked.call.latents.device
        index = [row_index(part.rows, device) for part in parts]
        before: Sequence[KeptOutput | None] = [None] * len(parts)
        if held is not None:
            before = held.parts or [_rows_of(held, rows) for rows in index]
        outputs = _outputs(asked, parts)
        answers, kept = [], []
        for part, output, own in zip(parts, outputs, before, strict=True):
            if output is None:
                assert own is not None  # noqa: S101 - a row without an output computes
                answers.append(_mixed(part.mix, own))
                kept.append(unchanged(work, own))
            else:
                after, given = self._taken(output, work, part, own)
                answers.append(output if given is None else given)
                kept.append(after)
        changes = [each.change for each in kept if each.change is not None]
        change = _scattered(index, changes) if len(changes) == len(parts) else None
        nothing = answers[0].new_empty(0)
        now = KeptOutput(nothing, step=work.step, change=change, parts=tuple(kept))
        return asked.call.answer(_scattered(index, answers)), now

    def _taken(
        self, output: torch.Tensor, work: Evaluation, part: RowGroup, held: KeptOutput | None
    ) -> tuple[KeptOutput, torch.Tensor | None]:
        """What is held after an output, and what the sampler gets instead of it, if anything."""
        change = None
        earlier: dict[int, torch.Tensor] = {}
        if held is not None:
            if work.measured:
                change = row_rms(output.float() - _mixed(part.check, held).float())
            earlier = {**held.earlier, held.step: held.output}
        held = KeptOutput(output, earlier=earlier, step=work.step, change=change)
        given = None if part.mix is None else _mixed(part.mix, held)
        kept = sorted(earlier)[len(earlier) - self._order :] if self._order else []
        return replace(held, earlier={step: earlier[step] for step in kept}), given


def _outputs(asked: NetworkCall, parts: Sequence[RowGroup]) -> list[torch.Tensor | None]:
    """The network's output for the rows of each part; None for those that do not compute."""
    running = sorted(row for part in parts if part.computed for row in part.rows)
    if not running:
        return [None] * len(parts)
    device = asked.call.latents.device
    if len(running) == asked.call.rows:
        output = asked.whole()[0].detach()
    else:
        output = asked.rows(row_index(running, device))
    place = {row: number for number, row in enumerate(running)}
    return [
        output.index_select(0, row_index([place[row] for row in part.rows], device))
        if part.computed
        else None
        for part in parts
    ]


def _rows_of(held: KeptOutput, index: torch.Tensor) -> KeptOutput:
    """What is held of some rows."""
    return replace(
        held,
        output=held.output.index_select(0, index),
        earlier={step: output.index_select(0, index) for step, output in held.earlier.items()},
    )


def _scattered(index: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Values of all rows from those of each part."""
    rows = sum(len(each) for each in index)
    whole = values[0].new_empty((rows, *values[0].shape[1:]))
    for each, value in zip(index, values, strict=True):
        whole.index_copy_(0, each, value)
    return whole


def _mixed(mix: Forecast | None, held: KeptOutput) -> torch.Tensor:
    """A sum of outputs, in float32 and back; what is held without a mix, or with too few outputs.

    There are too few where a context joined the run late: guidance that came on in its middle.
    """
    outputs = {**held.earlier, held.step: held.output}
    if mix is None or not all(step in outputs for step in mix.anchors):
        return held.output.clone()
    total = torch.zeros_like(held.output, dtype=torch.float32)
    for step, weight in zip(mix.anchors, mix.weights, strict=True):
        total.add_(outputs[step], alpha=weight)
    return total.to(held.output.dtype)
