"""Noticing that what a network is conditioned on has changed since its last call.

Text, images and control inputs stay the same over a run, unless a callback or a sampling loop
changes them. A kept output then belongs to the old ones and must not be reused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sencache.hook.call import Call


@dataclass(frozen=True)
class SeenTensor:
    """A tensor as it was given to the network.

    Attributes:
        tensor: The tensor itself, not a copy; so no other one gets its memory.
        version: How often it had been written to in place; 0 where torch does not count.
    """

    tensor: torch.Tensor
    version: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> SeenTensor:
        """A tensor as it is now."""
        return cls(tensor, 0 if tensor.is_inference() else tensor._version)

    def changed(self, now: SeenTensor) -> bool | torch.Tensor:
        """Whether `now` holds other values; a tensor on the device where these were compared."""
        old, new = self.tensor, now.tensor
        if (old.shape, old.dtype, old.device) != (new.shape, new.dtype, new.device):
            return True
        if SeenTensor.of(old).version != self.version:
            return True  # the old values are gone
        if old is new or (old.data_ptr() == new.data_ptr() and old.stride() == new.stride()):
            return False
        return (old != new).any()


class Conditions:
    """The conditions of the calls of one cache context.

    Compares every argument but the latents, the timestep and those that move with them, and the
    channels of the latents that hold a condition. The same tensor counts as unchanged unless it was
    written to in place (torch counts that, except for tensors made in inference mode). Other
    tensors are compared by their values, on their device; the result is read when a step is to be
    reused, not before.
    """

    def __init__(self) -> None:
        """Begin without a call."""
        self._seen: dict[str, Any] | None = None
        self._channels: torch.Tensor | None = None
        self._pending: list[torch.Tensor] = []

    def observe(self, call: Call) -> bool:
        """Take note of a call.

        Returns:
            Whether its conditions differ from those of the call before, as far as the host knows.
        """
        seen, channels = _conditions(call), call.condition()
        before, self._seen = self._seen, seen
        if channels is not None:
            if self._channels is not None and self._channels.shape == channels.shape:
                self._pending.append((channels != self._channels).any())
            self._channels = channels.clone()
        if before is None:
            return False
        changed = before.keys() != seen.keys() or any(
            self._differs(before[name], seen[name]) for name in seen
        )
        if changed:
            self.forget()
        return changed

    def differed(self) -> bool:
        """Whether compared values differed since this was last asked; waits for the device then."""
        pending, self._pending = self._pending, []
        if not pending:
            return False
        if len(pending) == 1:
            return bool(pending[0].item())
        return bool(torch.stack([each.to(pending[0].device) for each in pending]).any().item())

    def forget(self) -> None:
        """Take the latest call for the first: nothing of an earlier one is kept."""
        self._pending = []

    def _differs(self, before: Any, now: Any) -> bool:
        if not isinstance(before, SeenTensor) or not isinstance(now, SeenTensor):
            return not _equal(before, now)
        changed = before.changed(now)
        if isinstance(changed, bool):
            return changed
        self._pending.append(changed)
        return False


def _conditions(call: Call) -> dict[str, Any]:
    """What a call is conditioned on, by name; tensors as :class:`SeenTensor`."""
    family = call.family
    given = {
        name: value
        for name, value in call.arguments.items()
        if name not in (family.latents, family.timestep, "return_dict", *family.moving)
    }
    return dict(_flat("", given))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings and sequences."""
    if isinstance(value, torch.Tensor):
        yield name, SeenTensor.of(value)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{name}.{key}", each)
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _flat(f"{name}[{index}]", each)
    else:
        yield name, value


def _equal(before: Any, now: Any) -> bool:
    """Whether two arguments that are not both tensors are the same."""
    if before is now:
        return True
    plain = (int, float, complex, str, bytes)
    return isinstance(before, plain) and isinstance(now, plain) and before == now
