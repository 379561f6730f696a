"""Keeping the outputs of every step of a run, to measure how far they drift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sencache.profiles.metadata import Branch
from sencache.schedules.drift import Array

CHUNK = 1 << 18
"""Elements that are multiplied at a time, in float64."""


class OutputRecorder:
    """The guided outputs of one call of a pipeline, in float32 on the CPU.

    The sampler sees the guided output alone, u + s * (c - u); errors of the two branches that
    cancel in it do no harm. Needs memory for one output per clip and step: 8.4 MB for Wan at
    480x832x81.
    """

    def __init__(self) -> None:
        """Begin without outputs."""
        self._waiting: dict[Branch, torch.Tensor] = {}
        self._steps: list[torch.Tensor] = []
        self._taus: list[float] = []

    def add(
        self,
        step: int,
        tau: float,
        branches: Sequence[Branch],
        output: torch.Tensor,
        guidance_scale: float | None,
    ) -> None:
        """Keep the output of a call, one block of rows per branch.

        Args:
            step: Index of the step.
            tau: Its time.
            branches: Branches in the call.
            output: Of the network.
            guidance_scale: s of this network; None where the pipeline has none.
        """
        scale = 1.0 if guidance_scale is None else float(guidance_scale)
        values = output.detach().to("cpu", torch.float32)
        if step >= len(self._steps):
            self._waiting = {}
            self._taus.append(tau)
            self._steps.append(values)  # replaced by the guided one when both are known
        self._waiting |= zip(branches, values.chunk(len(branches)), strict=True)
        cond, uncond = self._waiting.get("cond"), self._waiting.get("uncond")
        if cond is not None:
            guided = cond if uncond is None else uncond + scale * (cond - uncond)
            self._steps[-1] = guided.flatten(1)

    def taus(self) -> tuple[float, ...]:
        """Time of each step, shape [T]."""
        return tuple(self._taus)

    def outputs(self) -> torch.Tensor:
        """The guided outputs, shape [T, clips, elements]."""
        return torch.stack(self._steps)

    def distances(self) -> Array:
        """Mean over clips and elements of the squared differences between steps, shape [T, T]."""
        outputs = torch.stack(self._steps)  # [T, clips, elements]
        flat = outputs.reshape(len(self._steps), -1)
        gram = np.zeros((len(flat), len(flat)))
        for begin in range(0, flat.shape[1], CHUNK):
            part = flat[:, begin : begin + CHUNK].double().numpy()
            part = part - part.mean(0)  # distances are small beside the outputs themselves
            gram += part @ part.T
        squares = np.diag(gram)
        distances: Array = (squares[:, None] + squares[None, :] - 2 * gram) / flat.shape[1]
        return np.maximum(distances, 0.0)
