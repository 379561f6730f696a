"""Reuse of the network's output: the paper's definition, and the least memory."""

from __future__ import annotations

from typing import Any

from sencache.hook.call import row_index
from sencache.reuse.base import KeptOutput, NetworkCall, RowSelection, measured_change


class OutputReuse:
    """Returns the output of each row's last computed step."""

    def evaluate(
        self, network_call: NetworkCall, selection: RowSelection, kept: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """Answer a call with computed and kept outputs."""
        computed, call = selection.computed, network_call.call
        if kept is None or all(computed):
            answer = network_call.whole()
            output = call.output(answer).detach().clone()
            return answer, KeptOutput(output, change=measured_change(selection, output, kept))
        if not any(computed):
            return call.answer(kept.output.clone()), kept.unchanged(selection)
        ran = [row for row, runs in enumerate(computed) if runs]
        index = row_index(ran, kept.output.device)
        output = kept.output.index_copy(0, index, network_call.rows(index))
        change = measured_change(selection, output, kept)
        return call.answer(output.clone()), KeptOutput(output, change=change)

    def release(self) -> None:
        """Nothing to remove."""
