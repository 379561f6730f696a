"""Running the network on the rows that need it, and filling in what the others reuse.

Knows how to gather, run and scatter; not why a row computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from sencache.hook.call import Call, row_index
from sencache.policies.rule import row_rms
from sencache.reuse.residual import BlockStack
from sencache.schedules.weights import Forecast

Forward = Callable[..., Any]


@dataclass(frozen=True)
class NetworkCall:
    """A call of a network, as its caller made it and as it is read.

    Attributes:
        forward: The network's own forward.
        call: The call, read.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """

    forward: Forward
    call: Call
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def whole(self) -> Any:
        """The network's answer, untouched."""
        return self.forward(*self.args, **self.kwargs)

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        """The network's output for some rows, given by a :func:`~sencache.hook.call.row_index`."""
        output: torch.Tensor = self.forward(**self.call.select(index))[0].detach()
        return output


@dataclass(frozen=True)
class RowGroup:
    """Rows of a call that a plan treats alike.

    Attributes:
        rows: Their numbers in the call, rising.
        computed: Whether the network runs for them.
        mix: What the sampler is given, if neither the network's output nor what is held.
        check: How a computed step would have been forecast, if not held.
    """

    rows: tuple[int, ...]
    computed: bool
    mix: Forecast | None = None
    check: Forecast | None = None


@dataclass(frozen=True)
class Evaluation:
    """What is to be done with a call.

    Attributes:
        step: Index of its step in the run.
        computed: Per row: whether the network runs for it.
        measured: Whether to tell how far what is computed is from what would have been reused.
        parts: All rows, by the plan that they follow; empty where none is followed.
    """

    step: int
    computed: Sequence[bool]
    measured: bool = False
    parts: tuple[RowGroup, ...] = ()


@dataclass(frozen=True)
class KeptOutput:
    """What is kept of one cache context between steps, in the dtypes of the network.

    Attributes:
        output: The network's output, every row from its own last computed step; empty where
            `parts` hold it.
        residual: What the blocks added to the tokens at the same steps, where that is reused.
        earlier: Outputs of computed steps before that, by step, where forecasts need them.
        step: Step of `output`, where all rows share it.
        change: rms per row between what the latest call computed and what it would have reused,
            shape [rows]; None where it was not measured, 0 where a row was reused.
        parts: What is held of the rows of each part, once rows follow plans of their own.
    """

    output: torch.Tensor
    residual: torch.Tensor | None = None
    earlier: Mapping[int, torch.Tensor] = field(default_factory=dict)
    step: int = 0
    change: torch.Tensor | None = None
    parts: tuple[KeptOutput, ...] = ()


class Reuse(Protocol):
    """One way of answering a call of which only some rows compute."""

    def evaluate(
        self, asked: NetworkCall, work: Evaluation, held: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """Answer a call.

        A call of which every row computes goes to the network untouched, so it is bit-identical
        to one without a cache. One of which no row does leaves the network alone.

        Args:
            asked: The call.
            work: What to do.
            held: From the context's last call; None at the first, where every row computes.

        Returns:
            The answer in the form the caller asked for, and what to hold from now on. They share
            no memory, for the caller may write into its own.
        """
        ...

    def release(self) -> None:
        """Take off the network whatever was put on it."""
        ...


class NoReuse:
    """Runs the network and keeps nothing: for runs whose steps are only counted."""

    _NOTHING = KeptOutput(torch.empty(0))

    def evaluate(
        self, asked: NetworkCall, work: Evaluation, held: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """See :class:`Reuse`.

        Raises:
            RuntimeError: Not every row computes.
        """
        if not all(work.computed):
            raise RuntimeError("a step was to be reused of which nothing is kept")
        return asked.whole(), self._NOTHING

    def release(self) -> None:
        """Nothing was put on."""


class OutputReuse:
    """Reuses the network's output: the paper's definition, and the least memory."""

    def evaluate(
        self, asked: NetworkCall, work: Evaluation, held: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """See :class:`Reuse`."""
        computed = work.computed
        if held is None or all(computed):
            answer = asked.whole()
            output = answer[0].detach().clone()
            return answer, KeptOutput(output, change=_change(work, output, held))
        if not any(computed):
            return asked.call.answer(held.output.clone()), unchanged(work, held)
        index = _where(computed, True, held.output.device)
        output = held.output.index_copy(0, index, asked.rows(index))
        return asked.call.answer(output.clone()), KeptOutput(
            output, change=_change(work, output, held)
        )

    def release(self) -> None:
        """Nothing was put on."""


class ResidualReuse:
    """Reuses what the blocks added to the tokens: embeddings and head run afresh.

    What the authors' code does. Rows that reuse go through the network in a call of their own,
    in which the blocks are skipped.
    """

    def __init__(self, stack: BlockStack) -> None:
        """Use the blocks of a transformer, on which `stack` is attached."""
        self._stack = stack

    def evaluate(
        self, asked: NetworkCall, work: Evaluation, held: KeptOutput | None
    ) -> tuple[Any, KeptOutput]:
        """See :class:`Reuse`."""
        computed = work.computed
        if held is None or held.residual is None or all(computed):
            answer, residual = self._recorded(asked.whole)
            output = answer[0].detach().clone()
            return answer, KeptOutput(output, residual, change=_change(work, output, held))
        if not any(computed):
            with self._stack.replay(held.residual):
                return asked.whole(), unchanged(work, held)
        ran = _where(computed, True, held.output.device)
        rest = _where(computed, False, held.output.device)
        fresh, added = self._recorded(lambda: asked.rows(ran))
        residual = held.residual.index_copy(0, ran, added)
        output = held.output.index_copy(0, ran, fresh)
        with self._stack.replay(residual.index_select(0, rest)):
            replayed = asked.rows(rest)
        kept = KeptOutput(output, residual, change=_change(work, output, held))
        return asked.call.answer(output.index_copy(0, rest, replayed)), kept

    def _recorded(self, run: Callable[[], Any]) -> tuple[Any, torch.Tensor]:
        """What a call of the network gives, and what its blocks added to the tokens."""
        with self._stack.record():
            answer = run()
        residual, self._stack.residual = self._stack.residual, None  # kept in one place
        if residual is None:
            raise RuntimeError("the network's forward did not go through its blocks")
        return answer, residual

    def release(self) -> None:
        """Take the hooks off the blocks."""
        self._stack.detach()


def _change(work: Evaluation, output: torch.Tensor, held: KeptOutput | None) -> torch.Tensor | None:
    if held is None or not work.measured:
        return None
    return row_rms(output.float() - held.output.float())


def unchanged(work: Evaluation, held: KeptOutput) -> KeptOutput:
    """The same, of a call that computed nothing."""
    none = held.output.new_zeros(len(held.output), dtype=torch.float32) if work.measured else None
    return replace(held, change=none)


def _where(computed: Sequence[bool], verdict: bool, device: torch.device) -> torch.Tensor:
    return row_index([row for row, ran in enumerate(computed) if ran is verdict], device)
