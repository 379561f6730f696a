"""DPCache: the cache schedule of least summed forecast error, by dynamic programming.

The cost of a gap is measured on calibration clips. It depends on the two computed steps before the
gap, because both shape the forecast: a tensor over triples of steps, the path-aware cost tensor.
Written from the paper (arXiv 2602.22654) and its published code (github.com/argsss/DPCache). Three
things differ here:

- Outputs of the network are forecast and compared, where the authors take the hidden states of the
  last block. Both are kept by one tensor per branch.
- The search is exact. Theirs keeps one predecessor per step, the best one so far, although costs
  depend on it.
- The first forecasts already use all outputs before them, as the cost tensor assumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager

from jobs.benchmarks.baselines.base import UnsupportedError
from jobs.benchmarks.baselines.gating import family_or_refuse
from jobs.benchmarks.baselines.schedules import FixedSchedule
from sencache import networks_of
from sencache.extension import CallReader, Forecast, attach, detach

HOOK_NAME = "dpcache_recording"
LONGEST = 0.3
"""Longest move from one computed step to the next, as a share of the steps (published code)."""
END_SHARE = 0.8
"""Share of the forecast in what stands for the output behind the last step (published code)."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class DPCache(FixedSchedule):
    """The schedule of least cost, with a Taylor forecast over step indices.

    Attributes:
        costs: Cost of computing `k` next after `i` and `j`, shape [T, T, T + 1]; index T is the
            end of the run. Infinite where that is not allowed.
        taylor_order: 1 for a line, 2 for a parabola, as published.
        first: Steps at the start that are always computed; published: 3.
    """

    costs: Array = field(default_factory=lambda: np.zeros((0, 0, 1)), repr=False, compare=False)
    taylor_order: int = 2
    first: int = 3

    name = "dpcache"
    source = "DPCache (arXiv 2602.22654), as in argsss/DPCache, on the network's output"

    @classmethod
    def fitted(cls, pipe: Any, run: Callable[[], object], taylor_order: int = 2) -> Self:
        """The method with the cost tensor of this pipeline.

        Args:
            pipe: The pipeline, without a cache.
            run: Samples calibration clips with the pipeline, in one call or several.
            taylor_order: See the attribute.

        Raises:
            UnsupportedError: The network's calls cannot be read, or nothing was run.
        """
        costs = cost_tensor(record_outputs(pipe, run), taylor_order)
        return cls(costs=costs, taylor_order=taylor_order)

    @property
    def order(self) -> int:
        """Outputs before the last that a forecast uses."""
        return self.taylor_order

    def layout(self) -> tuple[int, ...]:
        """Steps that are computed, rising; none if the costs are of another number of steps."""
        if len(self.costs) != self.steps or not self.first < self.computed <= self.steps:
            return ()
        return cheapest_path(self.costs, self.computed, self.first)

    def forecast(
        self, anchors: Sequence[int], step: int, times: Sequence[float]
    ) -> Forecast | None:
        """The Taylor expansion at the last anchor, over step indices."""
        return Forecast(tuple(anchors), tuple(taylor_weights(anchors, [step])[0].tolist()))


def taylor_weights(anchors: Sequence[int], steps: Sequence[int]) -> Array:
    """Weights of anchors in a Taylor expansion from the last of them.

    Derivatives are differences of the values at the last two anchors, divided by the distance of
    those two, also for the second derivative (TaylorSeer, arXiv 2503.06923, and DPCache).

    Args:
        anchors: One to three steps, rising.
        steps: Where to expand to.

    Returns:
        Shape [steps, anchors]; rows add up to 1.
    """
    count = len(anchors)
    ahead = np.asarray(steps, dtype=np.float64) - anchors[-1]
    unit = np.eye(count)
    weights = np.tile(unit[-1], (len(steps), 1))
    if count > 1:
        last = anchors[-1] - anchors[-2]
        slope = (unit[-1] - unit[-2]) / last
        weights += ahead[:, None] * slope
    if count > 2:
        before = (unit[-2] - unit[-3]) / (anchors[-2] - anchors[-3])
        weights += ahead[:, None] ** 2 / 2 * (slope - before) / last
    return weights


def cost_tensor(outputs: torch.Tensor, order: int) -> Array:
    """Summed forecast errors of every gap behind every pair of computed steps.

    Args:
        outputs: Of the network, per step and number, shape [T, N].
        order: Of the Taylor expansion, 1 or 2.

    Returns:
        Shape [T, T, T + 1]: [i, j, k] is the sum over the steps after j, up to and including k, of
        the mean absolute forecast error from j, i and, for order 2, the step before i. Infinite for
        moves beyond :data:`LONGEST` and where a forecast lacks steps.
    """
    steps = len(outputs)
    reach = max(1, int(LONGEST * steps))
    tail = range(steps - 1 - order, steps)
    expanded = _combined(outputs, tail, [steps])[0]
    end = END_SHARE * expanded + (1 - END_SHARE) * outputs[list(tail)].mean(0)
    truth = torch.cat([outputs, end[None]])
    costs = np.full((steps, steps, steps + 1), np.inf)
    for j in range(order, steps):
        ahead = list(range(j + 1, min(j + reach, steps) + 1))
        for i in range(max(order - 1, j - reach), j):
            anchors = (i - 1, i, j) if order > 1 else (i, j)
            errors = (_combined(outputs, anchors, ahead) - truth[ahead]).abs().mean(1)
            costs[i, j, ahead] = errors.cumsum(0).double().numpy()
    return costs


def cheapest_path(costs: Array, computed: int, first: int) -> tuple[int, ...]:
    """The path of least cost with an exact number of computed steps.

    Args:
        costs: As of :func:`cost_tensor`.
        computed: Steps to compute.
        first: Steps at the start that are among them, at least 2.

    Returns:
        The computed steps, rising; empty if there is no such path.
    """
    steps = len(costs)
    total = np.full((steps, steps), np.inf)  # of the best path that ends with steps i, j
    total[first - 2, first - 1] = 0.0
    origins: list[np.ndarray[Any, np.dtype[np.intp]]] = []
    for _ in range(computed - first):
        onward = total[:, :, None] + costs[:, :, :steps]
        origins.append(onward.argmin(0))
        total = onward.min(0)
    ended = total + costs[:, :, steps]
    if not np.isfinite(ended.min()):
        return ()
    i, j = (int(index) for index in np.unravel_index(ended.argmin(), ended.shape))
    path = [j, i]
    for origin in reversed(origins):
        path.append(int(origin[path[-1], path[-2]]))
    return (*range(first - 2), *reversed(path))


def record_outputs(pipe: Any, run: Callable[[], object]) -> torch.Tensor:
    """Outputs of uncached runs, of the conditional branch where it has a call of its own.

    Returns:
        Shape [T, N], float32, on the CPU; N counts the numbers of all clips.

    Raises:
        UnsupportedError: See :meth:`DPCache.fitted`.
    """
    calls: list[torch.Tensor] = []
    runs: list[int] = []
    with ExitStack() as stack:
        for network in networks_of(pipe).values():
            hook = _OutputHook(calls, runs, family_or_refuse(network))
            attach(network, hook, HOOK_NAME)
            stack.callback(detach, network, HOOK_NAME)
        run()
    lengths = {end - start for start, end in zip([0, *runs], [*runs, len(calls)], strict=True)}
    lengths.discard(0)
    if len(lengths) != 1:
        raise UnsupportedError("DPCache can only be fitted on whole runs of equal length")
    length = lengths.pop()
    whole = [calls[start : start + length] for start in range(0, len(calls), length)]
    return torch.cat([torch.stack([each.flatten() for each in one]) for one in whole], 1)


class _OutputHook(ModelHook):
    """Keeps what a network returns, call by call."""

    _is_stateful = True  # so that diffusers tells it the cache context

    def __init__(self, calls: list[torch.Tensor], runs: list[int], family: Any) -> None:
        super().__init__()
        self.state_manager = StateManager(BaseState)
        self._calls, self._runs, self._family = calls, runs, family
        self._reader: CallReader | None = None

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        forward = self.fn_ref.original_forward
        answer = forward(*args, **kwargs)
        context = self.state_manager._context
        if context is None or context.name != "uncond":
            if self._reader is None:
                self._reader = CallReader(self._family, module, forward)
            output = self._reader(args, kwargs).output(answer)
            self._calls.append(output.detach().float().cpu())
        return answer

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        if not self._runs or self._runs[-1] != len(self._calls):
            self._runs.append(len(self._calls))
        self.state_manager.reset()
        return module


def _combined(outputs: torch.Tensor, anchors: Sequence[int], ahead: Sequence[int]) -> torch.Tensor:
    weights = torch.from_numpy(taylor_weights(list(anchors), ahead)).to(outputs.dtype)
    return weights @ outputs[list(anchors)]
