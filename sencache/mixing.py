"""Answering calls with sums of earlier outputs, as a plan says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from sencache.forecast import Mix
from sencache.policy import row_rms
from sencache.reuse import Asked, Held, Work, unchanged


class MixReuse:
    """Answers with sums of the last computed outputs, as a plan says; all rows alike.

    Sums are in float32 and come back in the dtype of the network.
    """

    def __init__(self, order: int) -> None:
        """Keep outputs.

        Args:
            order: Outputs before the last one that a forecast is made from.
        """
        self._order = order

    def evaluate(self, asked: Asked, work: Work, held: Held | None) -> tuple[Any, Held]:
        """See :class:`Reuse`."""
        if held is not None and not any(work.computed):
            return asked.call.answer(_mixed(work.mix, held)), unchanged(work, held)
        answer = asked.whole()
        output = answer[0].detach().clone()
        change = None
        earlier: dict[int, torch.Tensor] = {}
        if held is not None:
            if work.measured:
                change = row_rms(output.float() - _mixed(work.check, held).float())
            earlier = {**held.earlier, held.step: held.output}
        held = Held(output, earlier=earlier, step=work.step, change=change)
        if work.mix is not None:
            answer = asked.call.answer(_mixed(work.mix, held))
        kept = sorted(earlier)[len(earlier) - self._order :] if self._order else []
        return answer, replace(held, earlier={step: earlier[step] for step in kept})

    def release(self) -> None:
        """Nothing was put on."""


def _mixed(mix: Mix | None, held: Held) -> torch.Tensor:
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
