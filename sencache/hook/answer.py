"""What a network answers: one output or several, bare, in a tuple or in an output class.

Several outputs, such as a video and its sound, are joined to one tensor while they are kept, so
that they are reused and forecast together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.utils import BaseOutput


class AnswerForm:
    """The form of a network's answers, learnt from those that it gives."""

    def __init__(self) -> None:
        """Begin with the form of most networks: one output."""
        self._class: type[Any] = Transformer2DModelOutput
        self._names: Sequence[str] = ("sample",)
        self._shapes: Sequence[torch.Size] = ()
        self._bare = False

    def output(self, answer: Any) -> torch.Tensor:
        """The output in an answer, shape [rows, ...]; several are joined to [rows, elements].

        Raises:
            ValueError: The answer is not one tensor, or several, with one item per row.
        """
        self._bare = isinstance(answer, torch.Tensor)
        parts: Sequence[Any] = (answer,)
        if isinstance(answer, BaseOutput):
            self._class, self._names = type(answer), tuple(answer.keys())
            parts = answer.to_tuple()
        elif not self._bare:
            parts = answer
        if len(parts) == 1:
            self._shapes = ()
            only: torch.Tensor = parts[0]
            return only
        if not all(isinstance(part, torch.Tensor) and len(part) == len(parts[0]) for part in parts):
            found = ", ".join(type(part).__name__ for part in parts)
            raise ValueError(
                f"the network answers with {found}; outputs can only be reused where all are "
                "tensors with one item per row"
            )
        self._shapes = [part.shape[1:] for part in parts]
        return torch.cat([part.flatten(1) for part in parts], 1)

    def answer(self, output: torch.Tensor, *, as_dict: bool) -> Any:
        """An output in the form of the answers so far.

        Args:
            output: As :meth:`output` gives it.
            as_dict: Whether the caller asked for an output class.
        """
        parts: Sequence[torch.Tensor] = (output,)
        if self._shapes:
            pieces = torch.split_with_sizes(output, [shape.numel() for shape in self._shapes], 1)
            parts = [
                piece.reshape(len(piece), *shape)
                for piece, shape in zip(pieces, self._shapes, strict=True)
            ]
        if as_dict:
            return self._class(**dict(zip(self._names, parts, strict=True)))
        return parts[0] if self._bare else tuple(parts)
