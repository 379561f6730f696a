"""A fake of CUDA that computes: tensors say `cuda:0` and hold their values in host memory.

It finds what a machine without a GPU hides: an operation on tensors of two devices raises, as CUDA
would, and every wait for the device is recorded with the line of the project that asked for it. It
knows nothing of speed, memory or kernels.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
CUDA = torch.device("cuda:0")

WAITS = {
    aten._local_scalar_dense.default: "item",
    aten.is_nonzero.default: "item",
    aten.nonzero.default: "nonzero",
    aten.equal.default: "equal",
    aten.masked_select.default: "masked_select",
}
"""Operations whose result the host needs before it can go on."""

TAKES_HOST_INDEX = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)

OURS, LIBRARIES = ("/sencache/", "/pipeline/"), ("/diffusers/", "/transformers/")


class DeviceMixError(RuntimeError):
    """An operation met tensors of the host and of the device."""


@dataclass(frozen=True, slots=True)
class Wait:
    """One wait of the host for the device.

    Attributes:
        kind: `item`, `to host`, `to device`, ...
        where: File and line, from the folder of the package on.
        ours: Whether this project asked for it, and not a library.
    """

    kind: str
    where: str
    ours: bool


@dataclass
class Waits:
    """The waits of a block, in order."""

    all: list[Wait] = field(default_factory=list)

    def note(self, kind: str) -> None:
        """Record a wait of the line that the call comes from."""
        for frame in reversed(traceback.extract_stack()):
            name = frame.filename
            if "/torch/" in name or name == __file__:
                continue
            for package in (*OURS, *LIBRARIES):
                if package in name:
                    where = f"{package.strip('/')}/{name.rpartition(package)[2]}:{frame.lineno}"
                    self.all.append(Wait(kind, where, package in OURS))
                    return
        self.all.append(Wait(kind, "elsewhere", ours=False))

    @property
    def ours(self) -> list[Wait]:
        """Those that this project asked for."""
        return [wait for wait in self.all if wait.ours]


_noted = Waits()


class FakeCudaTensor(torch.Tensor):
    """A tensor on the fake device.

    Attributes:
        inner: Its values, on the host.
    """

    inner: torch.Tensor

    @staticmethod
    def __new__(cls: type[FakeCudaTensor], inner: torch.Tensor) -> FakeCudaTensor:
        """Wrap a host tensor."""
        made: FakeCudaTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=CUDA,
            requires_grad=False,
        )
        return made

    def __init__(self, inner: torch.Tensor) -> None:
        super().__init__()
        self.inner = inner

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"FakeCudaTensor({tuple(self.shape)}, {self.dtype})"

    def tolist(self) -> Any:
        """Through the host: torch would read the storage directly."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation on the host."""
        return _dispatch(func, args, dict(kwargs or {}))


class _FakeCudaMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees operations that make tensors on the device from nothing, or from the host."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _dispatch(func, args, dict(kwargs or {}))


@contextlib.contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    """Within the block there is a device `cuda:0`; yields the waits for it."""
    tensor = torch.tensor

    def unpinned(*args: Any, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:
        return tensor(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        for name in ("synchronize", "reset_peak_memory_stats", "empty_cache"):
            patch.setattr(torch.cuda, name, lambda *_: None)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda *_: 1)
        patch.setattr(torch.cuda, "get_device_name", lambda *_: "a fake of CUDA")
        patch.setattr(torch, "tensor", unpinned)
        _noted.all.clear()
        torch._C._set_only_lift_cpu_tensors(True)
        torch._C._ensureCUDADeviceGuardSet()
        try:
            with _FakeCudaMode():  # type: ignore[no-untyped-call]
                yield _noted
        finally:
            torch._C._set_only_lift_cpu_tensors(False)


def to_cuda(pipe: Any) -> None:
    """Move the parts of a pipeline to the fake device."""
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    for module in (module for part in parts for module in part.modules()):
        for name, value in module._parameters.items():
            if value is not None:
                held = FakeCudaTensor(value.data)
                module._parameters[name] = torch.nn.Parameter(held, requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = FakeCudaTensor(buffer)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, FakeCudaTensor) else value


def _dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    on_device = [isinstance(each, FakeCudaTensor) for each in tensors]
    asked = kwargs.get("device")
    device = None if asked is None else torch.device(asked).type
    if func is torch.ops.prim.device.default:
        return CUDA
    if func is aten.lift_fresh.default:
        return args[0]
    if func is aten._to_copy.default:
        return _copied(func, args[0], kwargs, device)
    if func is aten.copy_.default and on_device[0] != on_device[1]:
        to, source = tensors[0], tensors[1]
        if source.ndim and not _waits_not(args[2:], kwargs):
            _noted.note("to device" if on_device[0] else "to host")
        _inner(to).copy_(_inner(source))
        return to
    if any(on_device):
        _check(func, args, tensors)
    out = func(*tree_map(_inner, args), **_on_host(tree_map(_inner, kwargs)))
    if not any(on_device) and device != "cuda":
        return out
    known = {id(each.inner): each for each in tensors if isinstance(each, FakeCudaTensor)}

    def back(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else FakeCudaTensor(value)

    return tree_map(back, out)


def _check(func: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    """Note a wait; refuse a mix of devices, in which only numbers and indices are allowed."""
    if func in WAITS:
        _noted.note(WAITS[func])
    if func in TAKES_HOST_INDEX:
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                _noted.note("index by mask")
            if index is not None and not isinstance(index, FakeCudaTensor):
                _noted.note("to device")
        return
    alien = [each for each in tensors if not isinstance(each, FakeCudaTensor) and each.ndim]
    if alien:
        raise DeviceMixError(f"{func}: tensors on cpu and cuda:0, {[*alien[0].shape]} on cpu")


def _copied(func: Any, source: torch.Tensor, kwargs: dict[str, Any], device: str | None) -> Any:
    """A copy in another type or on another device."""
    held = isinstance(source, FakeCudaTensor)
    to_device = held if device is None else device == "cuda"
    if held != to_device and not _waits_not((), kwargs):
        _noted.note("to device" if to_device else "to host")
    out = func(_inner(source), **_on_host(kwargs))
    if out is _inner(source):
        out = out.clone()
    return FakeCudaTensor(out) if to_device else out


def _waits_not(rest: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a copy was asked to go on beside the host.

    CUDA puts small pageable memory aside first, so this holds without pinned memory too.
    """
    return bool(rest[0]) if rest else bool(kwargs.get("non_blocking", False))


def _on_host(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments with the host in place of the device."""
    own = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    if own.get("device") is not None:
        own["device"] = torch.device("cpu")
    return own
