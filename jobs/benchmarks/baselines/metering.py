"""How much of a network really ran under a cache that is not ours.

Watches the modules beneath whatever a cache puts on them, so it does not rely on the cache's own
account. A module's share of a step is its share of the blocks' floating point operations, counted
in the first call of a run, which every cache computes in full. Embeddings and head do not count, as
for methods of which only steps are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.hooks.hooks import BaseState, HookRegistry, ModelHook, StateManager
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from jobs.benchmarks.baselines.base import BaselineResult, UnsupportedError
from sencache import Family
from sencache.extension import CallReader, attach, detach, guidance_of, is_paired

HOOK_NAME = "sencache_meter"
TRACES = ("forward", "_diffusers_hook", "_cache_config")
"""Attributes that diffusers leaves on modules that it hooked."""


Check = Callable[[str, int], None]
"""Takes the name of a cache context and the number of branches in its calls."""


@dataclass(frozen=True)
class MeteredCall:
    """A call of a network.

    Attributes:
        network: Which network.
        context: Name of the cache context; "" outside of one.
        samples: Samples in it.
        work: What ran of its blocks, as a share of a full call.
        ran: Whether its last block ran.
    """

    network: int
    context: str
    samples: int
    work: float
    ran: bool


@dataclass
class MeterLog:
    """The calls of the latest run, of all networks of a pipeline.

    Attributes:
        calls: In order.
        ended: Whether the pipeline's call is over, so that the next begins another run.
    """

    calls: list[MeteredCall] = field(default_factory=list)
    ended: bool = False

    def decisions(self) -> list[str]:
        """Per sample, over the calls with the conditional branch, in order."""
        mine = [call for call in self.calls if call.context != "uncond"]
        letters = "".join("C" if call.ran else "R" for call in mine)
        return [letters] * (mine[0].samples if mine else 0)

    def nfe(self) -> list[float]:
        """Per sample, in steps; the calls of a step together count as one."""
        if not self.calls:
            return []
        contexts = {call.context for call in self.calls}
        total = sum(call.work for call in self.calls) / len(contexts)
        return [total] * self.calls[0].samples

    def outcome(self) -> BaselineResult:
        """Both, as a :class:`BaselineResult`."""
        return BaselineResult(self.decisions, self.nfe)


class Meter:
    """Watches one network."""

    def __init__(
        self,
        pipe: Any,
        network: torch.nn.Module,
        number: int,
        family: Family,
        parts: Mapping[str, torch.nn.Module],
        log: MeterLog,
        check: Check,
    ) -> None:
        """Set what to watch; :meth:`attached` watches.

        Args:
            pipe: The pipeline, which tells whether there is guidance.
            network: The network.
            number: Its index among the pipeline's networks.
            family: Its family.
            parts: Modules of it that a cache may skip, by name, none within another.
            log: Takes the calls.
            check: Raises where the cache cannot do a call.
        """
        self._pipe, self._network, self._number = pipe, network, number
        self._family, self._parts, self._log, self._check = family, parts, log, check
        blocks = blocks_of(network, family)
        self._blocks, self._last = list(blocks), list(blocks)[-1]
        self._watched = {**blocks, **parts}
        self._reader: CallReader | None = None
        self._flops: dict[str, int] = {}
        self._shares: dict[str, float] = {}
        self._rows: dict[str, int] = {}  # of a full call of each context
        self._samples = 0
        self._seen: set[str] = set()
        self._counter: FlopCounterMode | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Watch; enter before a cache is put on, and leave after it is removed."""
        with ExitStack() as stack:
            for name, part in self._watched.items():
                attach(part, _Watch(self._part_runs(name)), HOOK_NAME)
                stack.callback(detach, part, HOOK_NAME)
            attach(self._network, _RootWatch(self._root_runs, self._log), HOOK_NAME)
            stack.callback(detach, self._network, HOOK_NAME)
            yield

    def _part_runs(self, name: str) -> Callable[..., Any]:
        def run(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            before = self._counter.get_total_flops() if self._counter else 0
            output = forward(*args, **kwargs)
            self._seen.add(name)
            if self._counter:
                self._flops[name] = self._counter.get_total_flops() - before
            return output

        return run

    def _root_runs(
        self, context: str, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        if self._log.ended:
            self._log.calls, self._log.ended = [], False
        mine = [call for call in self._log.calls if call.network == self._number]
        if not mine:
            self._rows = {}
        self._seen.clear()
        if self._reader is None:
            self._reader = CallReader(self._family, self._network, forward)
        call = self._reader(args, kwargs)
        if context not in self._rows:
            self._rows[context] = call.rows
            branches = self._branches(context, call.latents)
            self._check(context, branches)
            self._samples = call.rows // branches
        if mine:
            output = forward(*args, **kwargs)
        else:
            with FlopCounterMode(display=False, custom_mapping=_ON_CPU) as self._counter:
                output = forward(*args, **kwargs)
            self._counter = None
            total = sum(self._flops[name] for name in self._blocks)
            self._shares = {name: self._flops[name] / total for name in self._parts}
        skipped = sum(share for name, share in self._shares.items() if name not in self._seen)
        ran = self._last in self._seen
        work = call.rows / self._rows[context] * (1.0 - skipped)
        self._log.calls.append(MeteredCall(self._number, context, self._samples, work, ran))
        return output

    def _branches(self, context: str, latents: torch.Tensor) -> int:
        possible = len(self._family.branches(context or None))
        if possible == 1:
            return 1
        guided = guidance_of(self._pipe, None)
        return possible if (is_paired(latents) if guided is None else guided) else 1


class _Watch(ModelHook):
    """Calls a function instead of a module's forward."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self._run = run

    def new_forward(self, _module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self._run(self.fn_ref.original_forward, *args, **kwargs)


class _RootWatch(ModelHook):
    """The same for a network, with the cache context and the end of the pipeline's call."""

    _is_stateful = True

    def __init__(self, run: Callable[..., Any], log: MeterLog) -> None:
        super().__init__()
        self.state_manager = StateManager(BaseState)  # diffusers gives it the context
        self._run, self._log = run, log

    def new_forward(self, _module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        context = self.state_manager._context
        name = "" if context is None else context.name
        return self._run(name, self.fn_ref.original_forward, *args, **kwargs)

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        self._log.ended = True
        self.state_manager.reset()
        return module


@contextmanager
def untouched(network: torch.nn.Module) -> Iterator[None]:
    """Remove from the modules of a network what diffusers leaves on them."""
    before = {
        module: [name for name in TRACES if name in vars(module)] for module in network.modules()
    }
    try:
        yield
    finally:
        for module, names in before.items():
            for name in TRACES:
                if name not in names:
                    vars(module).pop(name, None)
        registry: HookRegistry | None = getattr(network, "_diffusers_hook", None)
        if registry is not None:  # it lists those below it
            registry.invalidate_child_registries_cache()


def blocks_of(network: torch.nn.Module, family: Family) -> dict[str, torch.nn.Module]:
    """The blocks of a network by name, in the order of execution.

    Raises:
        UnsupportedError: The family names none.
    """
    blocks = {
        f"{name}.{index}": block
        for name in family.blocks
        for index, block in enumerate(getattr(network, name))
    }
    if not blocks:
        raise UnsupportedError(f"the family {family.name!r} names no blocks")
    return blocks


def _attention_flops(
    query: Any, key: Any, value: Any, *_args: Any, out_shape: Any = None, **_kwargs: Any
) -> int:
    flops: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return flops


# PyTorch counts the attention kernels of GPUs only.
_ON_CPU = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
