"""Sensitivities between the times at which they were measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

Curve = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""a_x and a_t as a function of tau, each of shape [rows]."""

TIE = 2e-7
"""Distances this close count as equal: tau in float32 does not give back a whole timestep."""


class SensitivityCurve:
    """a_x(tau) and a_t(tau), linear between the measured points and constant beyond them."""

    def __init__(self, tau: torch.Tensor, values: torch.Tensor) -> None:
        """Keep the knots.

        Args:
            tau: Rising, shape [points], points >= 2.
            values: a_x and a_t at the knots, shape [2, points].
        """
        self._tau = tau
        slopes = values.diff(dim=1) / tau.diff()
        # One row per interval: where it begins, then a_x, a_t and their slopes there.
        self._table = torch.cat([tau[None, :-1], values[:, :-1], slopes]).T.contiguous()

    def __call__(self, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Interpolate on tau's own device.

        Args:
            tau: Shape [rows], float32. NaN gives NaN.

        Returns:
            a_x and a_t, each of shape [rows].
        """
        if self._tau.device != tau.device:  # once per device
            self._tau, self._table = self._tau.to(tau.device), self._table.to(tau.device)
        inside = tau.clamp(self._tau[0], self._tau[-1])
        interval = torch.bucketize(inside, self._tau[1:-1], right=True)
        begin, a_x, a_t, slope_x, slope_t = self._table[interval].unbind(1)
        beyond = inside - begin
        return torch.addcmul(a_x, slope_x, beyond), torch.addcmul(a_t, slope_t, beyond)


class NearestCurve:
    """a_x(tau) and a_t(tau) of the nearest stored time, the first stored of equals."""

    def __init__(self, tau: torch.Tensor, values: torch.Tensor) -> None:
        """Keep tau [points], in stored order, and a_x and a_t there, [2, points]."""
        self._tau, self._values = tau, values

    def __call__(self, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """a_x and a_t of shape [rows] at tau [rows], on its device; NaN gives NaN."""
        if self._tau.device != tau.device:  # once per device
            self._tau, self._values = self._tau.to(tau.device), self._values.to(tau.device)
        distance = (tau[:, None] - self._tau).abs()
        nearest = distance <= distance.amin(1, keepdim=True) + TIE
        found = self._values[:, nearest.int().argmax(1)]
        a_x, a_t = found.masked_fill(tau.isnan(), math.nan)
        return a_x, a_t
