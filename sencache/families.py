"""What differs between the transformer families of diffusers, one entry each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.utils.torch_utils import unwrap_module

from sencache.measurement import Branch


@dataclass(frozen=True)
class Family:
    """How to read and answer a transformer's forward.

    Attributes:
        name: Name of the family, as stored in profiles.
        classes: Names of the transformer classes; subclasses count too.
        contexts: For each name that pipelines pass to ``cache_context``, the guidance branches
            of that call in the order of its rows: ``("cond",)`` for a call of its own,
            ``("uncond", "cond")`` for both branches in one batch.
        per_row: Arguments that hold one item per row, where their leading size is the batch;
            any other argument (rotary tables, scales, switches) is shared by the rows.
        latents: Argument that holds the noisy latents, batch first.
        timestep: Argument that holds the timestep: a scalar, [rows] or [rows, tokens].
        channel_dim: Dimension of the latents' channels. Channels beyond those the network
            predicts hold a condition (an image, a mask) that does not change while sampling.
    """

    name: str
    classes: tuple[str, ...]
    contexts: Mapping[str, tuple[Branch, ...]]
    per_row: tuple[str, ...]
    latents: str = "hidden_states"
    timestep: str = "timestep"
    channel_dim: int = 1

    def branches(self, context: str | None) -> tuple[Branch, ...]:
        """Branches of a call, in row order.

        A call without a context is taken as one of a loop without guidance; a loop that calls the
        network twice per step without contexts is refused where its calls are judged.

        Raises:
            ValueError: The context's name is not one of this family.
        """
        if context is None:
            return ("cond",)
        if context not in self.contexts:
            known = ", ".join(repr(name) for name in self.contexts)
            raise ValueError(
                f"cache_context {context!r} is not one of the {self.name} family ({known})"
            )
        return self.contexts[context]


WAN = Family(
    name="wan",
    classes=("WanTransformer3DModel",),
    contexts={"cond": ("cond",), "uncond": ("uncond",)},
    per_row=(
        "hidden_states",
        "timestep",
        "encoder_hidden_states",
        "encoder_hidden_states_image",
    ),
)

FAMILIES: tuple[Family, ...] = (WAN,)


class UnknownTransformerError(ValueError):
    """The transformer is of a class that no family lists."""


def family_of(transformer: torch.nn.Module) -> Family:
    """The family of a transformer, by the names of its class and their bases.

    Raises:
        UnknownTransformerError: None of them is known.
    """
    cls = type(unwrap_module(transformer))
    names = {base.__name__ for base in cls.__mro__}
    for family in FAMILIES:
        if names.intersection(family.classes):
            return family
    known = ", ".join(name for family in FAMILIES for name in family.classes)
    raise UnknownTransformerError(
        f"SenCache does not know the transformer class {cls.__name__}; known: {known}"
    )


@dataclass(frozen=True)
class Call:
    """One forward, its arguments by name.

    Attributes:
        family: How to read them.
        arguments: Every argument that was passed, by name.
        latents: The part of the latents that sampling moves, shape [rows, ...].
    """

    family: Family
    arguments: Mapping[str, Any]
    latents: torch.Tensor

    @property
    def rows(self) -> int:
        """Rows of the batch, all branches of this call together."""
        return self.latents.shape[0]

    def tau(self, num_train_timesteps: int) -> torch.Tensor:
        """Time of each row in [0, 1], float32, shape [rows].

        With a timestep per token (Wan 2.2 TI2V: given frames sit at 0) the row's time is that
        of its noisiest token.
        """
        timestep = torch.as_tensor(self.arguments[self.family.timestep])
        timestep = timestep.to(self.latents.device, torch.float32) / num_train_timesteps
        if timestep.ndim > 1:
            timestep = timestep.flatten(1).amax(1)
        return timestep.expand(self.rows)

    def select(self, index: torch.Tensor) -> dict[str, Any]:
        """The arguments for a subset of the rows, given by a :func:`row_index`."""
        chosen = dict(self.arguments)
        for name in self.family.per_row:
            value = chosen.get(name)
            if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == self.rows:
                chosen[name] = value.index_select(0, index.to(value.device))
        return chosen

    def answer(self, sample: torch.Tensor) -> Any:
        """Wrap an output the way the caller asked for it."""
        if self.arguments.get("return_dict", True):
            return Transformer2DModelOutput(sample=sample)
        return (sample,)


def row_index(rows: Sequence[int], device: torch.device) -> torch.Tensor:
    """Row numbers on a device, for gather and scatter.

    From pinned memory on CUDA: an ordinary copy would let the host wait for the device.
    """
    on_cuda = device.type == "cuda"
    return torch.tensor(rows, pin_memory=on_cuda).to(device, non_blocking=on_cuda)


class CallReader:
    """Turns the arguments of a transformer's forward into a :class:`Call`."""

    def __init__(
        self, family: Family, transformer: torch.nn.Module, forward: Callable[..., Any]
    ) -> None:
        """Learn the signature of the forward.

        Args:
            family: The transformer's family.
            transformer: For its config: how many channels it predicts.
            forward: Its forward as it was before any hook of ours.
        """
        self._family = family
        self._signature = inspect.signature(forward)
        self._out_channels: int = unwrap_module(transformer).config.out_channels

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """Read one call. Raises TypeError as the forward itself would."""
        arguments = self._signature.bind(*args, **kwargs).arguments
        latents = arguments[self._family.latents].detach()
        channels = min(self._out_channels, latents.shape[self._family.channel_dim])
        return Call(self._family, arguments, latents.narrow(self._family.channel_dim, 0, channels))
