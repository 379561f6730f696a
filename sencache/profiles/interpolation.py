"""Sensitivities between the times at which they were measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

Curve = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""a_x and a_t as a function of tau, each of shape [rows]."""

TIE = 2e-7
"""Distances this close count as equal: tau in float32 does not give back a whole timestep."""


class KnotTensors:
    """The tensors of a curve, copied to each device once; a pickle holds those of the host."""

    def __init__(self, *values: torch.Tensor) -> None:
        self._values = values
        self._copies: dict[torch.device, tuple[torch.Tensor, ...]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_values": self._values, "_copies": {}}

    def on(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """The tensors on a device; the first call for a device waits for it."""
        if device not in self._copies:
            self._copies[device] = tuple(value.to(device) for value in self._values)
        return self._copies[device]


class SensitivityCurve:
    """a_x(tau) and a_t(tau), linear between the measured points and constant beyond them."""

    def __init__(self, tau: torch.Tensor, values: torch.Tensor) -> None:
        """Keep the knots.

        Args:
            tau: Rising, shape [points], points >= 2.
            values: a_x and a_t at the knots, shape [2, points].
        """
        slopes = values.diff(dim=1) / tau.diff()
        # One row per interval: where it begins, then a_x, a_t and their slopes there.
        table = torch.cat([tau[None, :-1], values[:, :-1], slopes]).T.contiguous()
        self._knots = KnotTensors(tau, table)

    def __call__(self, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Interpolate on tau's own device.

        Args:
            tau: Shape [rows], float32. NaN gives NaN.

        Returns:
            a_x and a_t, each of shape [rows].
        """
        knots, table = self._knots.on(tau.device)
        inside = tau.clamp(knots[0], knots[-1])
        interval = torch.bucketize(inside, knots[1:-1], right=True)
        begin, a_x, a_t, slope_x, slope_t = table[interval].unbind(1)
        beyond = inside - begin
        return torch.addcmul(a_x, slope_x, beyond), torch.addcmul(a_t, slope_t, beyond)


class NearestCurve:
    """a_x(tau) and a_t(tau) of the nearest stored time, the first stored of equals."""

    def __init__(self, tau: torch.Tensor, values: torch.Tensor) -> None:
        """Keep tau [points], in stored order, and a_x and a_t there, [2, points]."""
        self._knots = KnotTensors(tau, values)

    def __call__(self, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """a_x and a_t of shape [rows] at tau [rows], on its device; NaN gives NaN."""
        knots, values = self._knots.on(tau.device)
        distance = (tau[:, None] - knots).abs()
        nearest = distance <= distance.amin(1, keepdim=True) + TIE
        found = values[:, nearest.int().argmax(1)]
        a_x, a_t = found.masked_fill(tau.isnan(), math.nan)
        return a_x, a_t
