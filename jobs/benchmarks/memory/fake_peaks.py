"""Peaks of live memory, from fake tensors: shapes are computed and nothing else.

A forward of 14 billion parameters takes seconds and no memory. What the peak leaves out: the
workspace of cuDNN and cuBLAS, the rounding and the fragments of the allocator, and the context of
the process. `pipeline.models.memory.need` adds what was measured of these on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that are made inside its block and still live.

    Attributes:
        live: Bytes now.
        peak: Most bytes so far.
    """

    def __init__(self, held: torch.nn.Module) -> None:
        """Begin at nothing.

        Args:
            held: A module whose weights do not count.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._seen: Any = WeakIdKeyDictionary()
        for tensor in (*held.parameters(), *held.buffers()):
            self._seen[tensor.untyped_storage()] = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it has made."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        size = storage.nbytes()
        self.live += size
        self._seen[storage] = _AtEnd(lambda: self._free(size))

    def _free(self, size: int) -> None:
        self.live -= size


class _AtEnd:
    """Calls something when it goes, with the dictionary entry that holds it."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def __del__(self) -> None:
        self._call()


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Within the block, all new tensors are fake, without gradients."""
    with FakeTensorMode(allow_non_fake_inputs=False), torch.no_grad():
        yield


def peak_bytes(held: torch.nn.Module, call: Callable[[], Any]) -> int:
    """Most bytes that live at once while something is called, weights excluded.

    Args:
        held: The module that is called.
        call: Makes its inputs and calls it, inside `fake_tensors`.
    """
    with LiveBytes(held) as counted:
        call()
    return counted.peak


def weight_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(
        each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers())
    )


def cast(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Give fake weights the types that loading gives them: some parts stay in float32.

    diffusers keeps what a class names; transformers does so for float16 only.
    """
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    if dtype is not torch.float16 and isinstance(module, transformers.PreTrainedModel):
        kept = set()
    made: dict[int, torch.nn.Parameter] = {}  # by the old one: some weights serve twice
    old: list[Any] = []  # kept alive, so that no id is used again
    for name, owner in module.named_modules():
        for leaf, value in list(owner._parameters.items()):
            if value is not None and not kept.intersection((*name.split("."), leaf)):
                old.append(value)
                if id(value) not in made:
                    fresh = torch.empty(value.shape, dtype=dtype)
                    made[id(value)] = torch.nn.Parameter(fresh, requires_grad=False)
                owner._parameters[leaf] = made[id(value)]
