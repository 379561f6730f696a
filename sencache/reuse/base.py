"""The interface of a reuse: answer a call of which only some rows compute.

Defines what a reuse gets and what it keeps between steps; does not know why a row computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from sencache.hook.call import Call, row_rms
from sencache.schedules.weights import Forecast

Forward = Callable[..., Any]


@dataclass(frozen=True)
class NetworkCall:
    """A call of a network that can still be made, for all rows or for some.

    Attributes:
        forward: The network's own forward.
        call: The call, its arguments by name.
        args: Its positional arguments, as the caller passed them.
        kwargs: Its keyword arguments, likewise.
    """

    forward: Forward
    call: Call
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def whole(self) -> Any:
        """The network's answer for all rows, as if there were no cache."""
        return self.forward(*self.args, **self.kwargs)

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        """The network's output for some rows, given by a :func:`~sencache.hook.call.row_index`."""
        return self.call.output(self.forward(**self.call.select(index))).detach()


@dataclass(frozen=True)
class RowGroup:
    """Rows of a call that follow the same cache schedule.

    Attributes:
        rows: Their indices in the call, rising.
        computed: Whether the network runs for them.
        forecast: What the sampler gets; None: the network's output, or the kept one if the rows
            do not compute.
        check: The forecast of a computed step, to be compared with its output; None: the kept
            output.
    """

    rows: tuple[int, ...]
    computed: bool
    forecast: Forecast | None = None
    check: Forecast | None = None


@dataclass(frozen=True)
class RowSelection:
    """Which rows of a call the network computes.

    Attributes:
        step: Index of the call's step in the run.
        computed: Per row: whether the network runs for it.
        measured: Whether to measure how far the computed outputs are from the reused ones.
        groups: All rows, by the cache schedule that they follow; empty without schedules.
    """

    step: int
    computed: Sequence[bool]
    measured: bool = False
    groups: tuple[RowGroup, ...] = ()


@dataclass(frozen=True)
class KeptOutput:
    """What is kept of one cache context between steps, in the dtypes of the network.

    Attributes:
        output: The network's output, every row from its own last computed step; empty where
            `groups` have it.
        residual: What the blocks added to the tokens at the same steps, where that is reused.
        earlier: Outputs of computed steps before that, by step, where forecasts need them.
        step: Step of `output`, where all rows share it.
        change: rms per row between what the latest call computed and what it would have reused,
            shape [rows]; None where it was not measured, 0 where a row was reused.
        groups: What is kept of each group of rows, once rows follow different schedules.
    """

    output: torch.Tensor
    residual: torch.Tensor | None = None
    earlier: Mapping[int, torch.Tensor] = field(default_factory=dict)
    step: int = 0
    change: torch.Tensor | None = None
    groups: tuple[KeptOutput, ...] = ()

    def unchanged(self, selection: RowSelection) -> KeptOutput:
        """What is kept after a call that computed nothing."""
        change = None
        if selection.measured:
            change = self.output.new_zeros(len(self.output), dtype=torch.float32)
        return replace(self, change=change)


class Reuse(Protocol):
    """One way to answer a call of which only some rows compute."""

    def evaluate(
        self, network_call: NetworkCall, selection: RowSelection, kept: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """Answer a call.

        A call of which every row computes goes to the network unchanged, so it is bit-identical
        to one without a cache. A call of which no row computes does not run the network.

        Args:
            network_call: The call.
            selection: Which rows compute.
            kept: From the context's last call; None at the first, where every row computes.

        Returns:
            The answer in the form that the caller asked for, and what to keep from now on. They
            share no memory, because the caller may write into its answer.
        """
        ...

    def release(self) -> None:
        """Remove from the network whatever the reuse put on it."""
        ...


def measured_change(
    selection: RowSelection, output: torch.Tensor, kept: KeptOutput | None
) -> torch.Tensor | None:
    """Rms per row between an output and the kept one, shape [rows]; None where not wanted."""
    if kept is None or not selection.measured:
        return None
    return row_rms(output.float() - kept.output.float())
