"""The contexts of calls: named by the pipeline, or by their order within a step.

Some pipelines call the network for both branches of guidance without saying which is which. Their
families declare the order (`Family.unnamed`). A call belongs to the step of the call before it as
long as the scheduler has not moved on. Before the scheduler's first step, where it does not count
yet, the timestep tells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sencache.families.base import Family
from sencache.hook.call import Call
from sencache.hook.sampler_position import SamplerPosition


@dataclass(frozen=True)
class _NamedCall:
    """The latest call that was named by its order.

    Attributes:
        run: Of the scheduler.
        step: As the scheduler counts; None before its first step.
        time: The timestep that the network got.
        number: Its place within the step.
    """

    run: object
    step: int | None
    time: torch.Tensor
    number: int


class CallNames:
    """Names the calls of one network, and tells their time where the sampler is their clock."""

    def __init__(self, family: Family, sampler: SamplerPosition) -> None:
        """Begin without a call.

        Args:
            family: Of the network.
            sampler: Of the pipeline.
        """
        self._family, self._sampler = family, sampler
        self._latest: _NamedCall | None = None

    def name(self, context: str | None, call: Call) -> str | None:
        """The context of a call.

        Waits for the device only before the scheduler's first step, and where it does not count.

        Args:
            context: Name given to ``cache_context``; None outside of one.
            call: The call.

        Returns:
            A name; None where neither pipeline nor family has one.

        Raises:
            ValueError: There are more calls at a step than the family declares, or two calls per
                step are declared and the scheduler does not count its steps.
        """
        unnamed = self._family.unnamed
        if context is not None or not unnamed:
            return context
        run, step = self._sampler.run(), self._sampler.step()
        if run is None:
            return unnamed[0] if len(unnamed) == 1 else None  # the policy refuses repeated calls
        if len(unnamed) > 1 and not self._sampler.counts:
            raise ValueError(
                f"the {self._family.name} family calls the network {len(unnamed)} times per step "
                "outside of a cache context, and this pipeline's scheduler does not count its "
                "steps (it has no step_index), so the calls cannot be told apart; use another "
                "scheduler, or the policy none"
            )
        time, before = torch.as_tensor(call.arguments[self._family.timestep]), self._latest
        same = before is not None and before.run is run and before.step == step
        if same and step is None and before is not None:
            same = torch.equal(before.time, time)
        number = before.number + 1 if same and before is not None else 0
        if number >= len(unnamed):
            self._latest = None
            raise ValueError(
                f"the network was called {number + 1} times at one step outside of a cache context "
                f"but pipelines of the {self._family.name} family do so {len(unnamed)} times, so "
                "the calls cannot be told apart; wrap them in transformer.cache_context"
            )
        self._latest = _NamedCall(run, step, time, number)
        return unnamed[number]

    def timed(self, call: Call, step: int | None, num_train_timesteps: int) -> Call:
        """A call with its time, where that is the sampler's.

        Args:
            call: The call.
            step: Its step; None before the scheduler's first.
            num_train_timesteps: What timesteps are divided by to get tau.

        Raises:
            ValueError: The sampler is the clock, but it is not known.
        """
        if self._family.clock != "sampler":
            return call
        times = self._sampler.times(call, num_train_timesteps)
        if not times:
            raise ValueError(
                f"the time of a call of the {self._family.name} family is that of its sampler's "
                "step: give the pipeline, not its transformer"
            )
        return replace(call, sampler_tau=times[min(step or 0, len(times) - 1)])

    def forget(self) -> None:
        """Take the next call for the first of a step."""
        self._latest = None
