"""Answering calls with sums of earlier outputs, as a plan says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sencache.calls import Call
from sencache.forecast import Mix
from sencache.policy import row_rms
from sencache.reuse import Forward, Held, Work, unchanged


class MixReuse:
    """Answers with sums of the last computed outputs, as a plan says; all rows alike.

    Sums are in float32 and come back in the dtype of the network.
    """

    def __init__(self, anchors: int) -> None:
        """Keep outputs.

        Args:
            anchors: Most earlier outputs that a forecast is made from, the last one included.
        """
        self._anchors = anchors

    def evaluate(
        self,
        forward: Forward,
        call: Call,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        work: Work,
        held: Held | None,
    ) -> tuple[Any, Held]:
        """See :class:`Reuse`."""
        if held is not None and not any(work.computed):
            return call.answer(_mixed(work.mix, held)), unchanged(work, held)
        answer = forward(*args, **kwargs)
        output = answer[0].detach().clone()
        change = None
        earlier: dict[int, torch.Tensor] = {}
        if held is not None:
            if work.measured:
                change = row_rms(output.float() - _mixed(work.check, held).float())
            earlier = {**held.earlier, held.step: held.output}
            for step in sorted(earlier)[: -self._anchors]:
                del earlier[step]
        held = Held(output, earlier=earlier, step=work.step, change=change)
        return answer if work.mix is None else call.answer(_mixed(work.mix, held)), held

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
