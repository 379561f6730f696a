"""One forward of a transformer: its arguments by name, read as its family describes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.utils.torch_utils import unwrap_module

from sencache.families.base import Family
from sencache.hook.answer import AnswerForm


@dataclass(frozen=True)
class Call:
    """One forward, its arguments by name.

    Attributes:
        family: How to read them.
        arguments: Every argument that was passed, by name.
        latents: The part of the latents that sampling moves, shape [rows, ...].
        form: Of the network's answers.
        sampler_tau: Time by the sampler, for families whose clock it is; None until it is known.
    """

    family: Family
    arguments: Mapping[str, Any]
    latents: torch.Tensor
    form: AnswerForm = field(default_factory=AnswerForm)
    sampler_tau: float | None = None

    @property
    def rows(self) -> int:
        """Rows of the batch, all branches of this call together."""
        return self.latents.shape[0]

    def condition(self) -> torch.Tensor | None:
        """The channels of the latents that hold a condition, a view; None where none do."""
        given, dim = self.arguments[self.family.latents].detach(), self.family.channel_dim
        moving = self.latents.shape[dim]
        held: int = given.shape[dim] - moving
        return given.narrow(dim, moving, held) if held else None

    def tau(self, num_train_timesteps: int) -> torch.Tensor:
        """Time of each row in [0, 1], 1 at the noise, float32, shape [rows].

        With a timestep per token (given frames sit at the clip's end: Wan 2.2 TI2V, LTX) the
        row's time is that of its noisiest token.
        """
        if self.sampler_tau is not None:
            return torch.full((self.rows,), self.sampler_tau, device=self.latents.device)
        timestep = torch.as_tensor(self.arguments[self.family.timestep])
        tau = timestep.to(self.latents.device, torch.float32) / num_train_timesteps
        if self.family.time_rises:
            tau = 1 - tau
        if tau.ndim > 1:
            tau = tau.flatten(1).amax(1)
        return tau.expand(self.rows)

    def select(self, index: torch.Tensor) -> dict[str, Any]:
        """The arguments for a subset of the rows, given by a :func:`row_index`."""
        chosen = dict(self.arguments)
        for name in self.family.per_row:
            value = chosen.get(name)
            if isinstance(value, (list, tuple)):
                chosen[name] = [self._take(each, index) for each in value]
            elif isinstance(value, torch.Tensor) and value.ndim:
                chosen[name] = self._take(value, index)
        return chosen

    def output(self, answer: Any) -> torch.Tensor:
        """The network's output in an answer for all rows or some; several are joined to one.

        Raises:
            ValueError: The answer is not one tensor, or several, with one item per row.
        """
        return self.form.output(answer)

    def answer(self, output: torch.Tensor) -> Any:
        """Wrap an output in the form that the caller asked for."""
        return self.form.answer(output, as_dict=bool(self.arguments.get("return_dict", True)))

    def _take(self, value: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """A subset of the rows of one argument; the argument itself if all rows share it.

        Several items of a row lie next to each other: Wan's first and last frame are repeated as
        a pair, and its network views two at a time.
        """
        items, left_over = divmod(value.shape[0], self.rows)
        if items == 0 or left_over:
            return value
        index = index.to(value.device)
        if items == 1:
            return value.index_select(0, index)
        groups = value.reshape(self.rows, items, *value.shape[1:])
        return groups.index_select(0, index).flatten(0, 1)


def row_index(rows: Sequence[int], device: torch.device) -> torch.Tensor:
    """Row numbers on a device, for gather and scatter.

    Uses pinned memory on CUDA, because an ordinary copy would wait for the device.
    """
    on_cuda = device.type == "cuda"
    return torch.tensor(rows, pin_memory=on_cuda).to(device, non_blocking=on_cuda)


def row_rms(values: torch.Tensor) -> torch.Tensor:
    """Root mean square over each row's elements, in float32: shape [rows, ...] to [rows]."""
    return values.float().flatten(1).square().mean(1).sqrt()


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
        config = unwrap_module(transformer).config
        # Published configs of Mochi leave it out where it equals the input channels.
        self._out_channels: int = getattr(config, family.out_channels) or config.in_channels
        self._form = AnswerForm()

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """Read one call. Raises TypeError as the forward itself would."""
        arguments = kwargs
        if args or self._family.latents not in kwargs:
            arguments = self._signature.bind(*args, **kwargs).arguments
        latents = arguments[self._family.latents].detach()
        channels = min(self._out_channels, latents.shape[self._family.channel_dim])
        moving = latents.narrow(self._family.channel_dim, 0, channels)
        return Call(self._family, arguments, moving, self._form)


def is_paired(latents: torch.Tensor) -> bool:
    """Whether the rows are two copies of the same clips, one copy per guidance branch.

    Pipelines that evaluate both branches in one call repeat the latents, so that the halves are
    equal bit for bit; without guidance they call under the same cache context with each clip
    once. Clips that are all alike, such as two clips of one seed, look like branches and count as
    such. On CUDA the comparison waits for the device; once per sampling run is enough, because no
    run changes between the two.

    Args:
        latents: What a call is given, shape [rows, ...].

    Returns:
        True if and only if the number of rows is even and the first half equals the second.
    """
    rows = latents.shape[0]
    if rows == 0 or rows % 2:
        return False
    first, second = latents.detach().chunk(2)
    return torch.equal(first, second)
