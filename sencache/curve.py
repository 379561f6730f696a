"""Interpolation of measured sensitivities over time."""

from __future__ import annotations

import torch


class SensitivityCurve:
    """a_x(tau) and a_t(tau), linear between the measured points and constant beyond them."""

    def __init__(self, tau: torch.Tensor, values: torch.Tensor) -> None:
        """Keep the knots.

        Args:
            tau: Rising, shape [points], points >= 2.
            values: a_x and a_t at the knots, shape [2, points].
        """
        self._tau, self._values = tau, values

    def __call__(self, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Interpolate on tau's own device.

        Args:
            tau: Shape [rows], float32. NaN gives NaN.

        Returns:
            a_x and a_t, each of shape [rows].
        """
        if self._tau.device != tau.device:  # once per device: later calls find the knots there
            self._tau, self._values = self._tau.to(tau.device), self._values.to(tau.device)
        knots = self._tau
        inside = torch.maximum(torch.minimum(tau, knots[-1]), knots[0])
        right = torch.searchsorted(knots, inside).clamp(1, len(knots) - 1)
        weight = (inside - knots[right - 1]) / (knots[right] - knots[right - 1])
        a_x, a_t = torch.lerp(self._values[:, right - 1], self._values[:, right], weight)
        return a_x, a_t
