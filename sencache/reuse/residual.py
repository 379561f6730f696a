"""Reuse of what the blocks added to the tokens, as in the authors' public code.

Embeddings and head run at every step, at a small part of the cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sencache.hook.call import row_index
from sencache.reuse.base import KeptOutput, NetworkCall, RowSelection, measured_change
from sencache.reuse.block_stack import BlockStack


class ResidualReuse:
    """Gives rows that reuse a network call of their own, in which the blocks are skipped."""

    def __init__(self, stack: BlockStack) -> None:
        """Use the blocks of a transformer, on which `stack` is attached."""
        self._stack = stack

    def evaluate(
        self, network_call: NetworkCall, selection: RowSelection, kept: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """Answer a call with computed outputs and replayed residuals."""
        computed = selection.computed
        if kept is None or kept.residual is None or all(computed):
            answer, residual = self._recorded(network_call.whole)
            output = network_call.call.output(answer).detach().clone()
            change = measured_change(selection, output, kept)
            return answer, KeptOutput(output, residual, change=change)
        if not any(computed):
            with self._stack.replay(kept.residual):
                return network_call.whole(), kept.unchanged(selection)
        device = kept.output.device
        ran = row_index([row for row, runs in enumerate(computed) if runs], device)
        rest = row_index([row for row, runs in enumerate(computed) if not runs], device)
        fresh, added = self._recorded(lambda: network_call.rows(ran))
        residual = kept.residual.index_copy(0, ran, added)
        output = kept.output.index_copy(0, ran, fresh)
        with self._stack.replay(residual.index_select(0, rest)):
            replayed = network_call.rows(rest)
        change = measured_change(selection, output, kept)
        answer = network_call.call.answer(output.index_copy(0, rest, replayed))
        return answer, KeptOutput(output, residual, change=change)

    def release(self) -> None:
        """Remove the hooks from the blocks."""
        self._stack.detach()

    def _recorded(self, run: Callable[[], Any]) -> tuple[Any, torch.Tensor]:
        """The result of a call of the network, and what its blocks added to the tokens."""
        with self._stack.record():
            answer = run()
        residual, self._stack.residual = self._stack.residual, None  # kept in one place
        if residual is None:
            raise RuntimeError("the network's forward did not go through its blocks")
        return answer, residual
