"""Verdicts: compute or reuse, for every row at one step.

Pure tensor code that knows neither networks nor diffusers. All tensors are of shape [rows] on
the device of the latents, so that deciding needs no transfer to the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sencache.config import SenCacheConfig
from sencache.curve import SensitivityCurve


@dataclass(frozen=True)
class RowMemory:
    """What each row remembers of its last computed step ``r``.

    Attributes:
        tau: tau at r.
        a_x, a_t: Sensitivities at r, held until the next computed step.
        reuses: Reuses in a row since r.
        seen_tau: tau of the latest step, computed or reused.
    """

    tau: torch.Tensor
    a_x: torch.Tensor
    a_t: torch.Tensor
    reuses: torch.Tensor
    seen_tau: torch.Tensor


@dataclass(frozen=True)
class Verdict:
    """The outcome for each row.

    Attributes:
        compute: True where the network has to run.
        score: S, the predicted rms change of the output since the last computed step.
    """

    compute: torch.Tensor
    score: torch.Tensor


class SensitivityPolicy:
    """SenCache's rule for the rows of one branch.

    S = a_x(r) * rms(x - x_r) + a_t(r) * |tau - tau_r|; reuse iff S <= threshold and fewer than n
    reuses in a row came before (arXiv 2602.24208). x - x_r is the vector sum of all moves since
    r, so a path that returns to x_r costs nothing.
    """

    def __init__(self, config: SenCacheConfig, curve: SensitivityCurve | None) -> None:
        """Set up the rule.

        Args:
            config: Thresholds and cap.
            curve: Sensitivities of the branch. None is allowed where nothing is ever reused;
                scores are NaN then.
        """
        self._config = config
        self._curve = curve

    def threshold(self, step: int, num_steps: int | None) -> float:
        """Largest score that may be reused at a step; 0 means that every row computes.

        Args:
            step: Index of the step, from 0.
            num_steps: Steps of the run; may be None if nothing is ever reused.

        Raises:
            ValueError: The number of steps is needed but not known.
        """
        config = self._config
        if not config.may_reuse:
            return 0.0
        if num_steps is None:
            raise ValueError(
                "the number of steps is not known: this pipeline does not publish "
                "num_inference_steps through cache_context, so set "
                "SenCacheConfig.num_inference_steps"
            )
        if step == 0 or step >= num_steps - 1:
            return 0.0
        if step < round(config.strict_fraction * num_steps):
            return min(config.strict_epsilon, config.epsilon)
        return config.epsilon

    def judge(
        self, memory: RowMemory, tau: torch.Tensor, distance: torch.Tensor, threshold: float
    ) -> Verdict:
        """Decide one step.

        A row whose score is NaN computes: so a row that went bad never feeds on itself. So does
        a row whose tau rose, because it has started over.

        Args:
            memory: The rows' memory.
            tau: Time of this step.
            distance: rms(x - x_r) of each row.
            threshold: From :meth:`threshold`.
        """
        score = memory.a_x * distance + memory.a_t * (tau - memory.tau).abs()
        if threshold <= 0.0:  # also when S is exactly 0: nothing is reused without permission
            return Verdict(torch.ones_like(tau, dtype=torch.bool), score)
        reuse = (
            (score <= threshold)
            & (memory.reuses < self._config.max_reuse)
            & (tau <= memory.seen_tau)
        )
        return Verdict(~reuse, score)

    def begin(self, tau: torch.Tensor) -> RowMemory:
        """Memory after a step that every row computed."""
        a_x, a_t = self._sensitivities(tau)
        return RowMemory(tau, a_x, a_t, torch.zeros_like(tau, dtype=torch.int32), tau)

    def advance(self, memory: RowMemory, tau: torch.Tensor, compute: torch.Tensor) -> RowMemory:
        """Memory after a step of which ``compute`` says where the network ran."""
        a_x, a_t = self._sensitivities(tau)
        return RowMemory(
            tau=torch.where(compute, tau, memory.tau),
            a_x=torch.where(compute, a_x, memory.a_x),
            a_t=torch.where(compute, a_t, memory.a_t),
            reuses=torch.where(compute, 0, memory.reuses + 1),
            seen_tau=tau,
        )

    def _sensitivities(self, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._curve is None:
            unknown = torch.full_like(tau, torch.nan)
            return unknown, unknown
        return self._curve(tau)


def row_rms(values: torch.Tensor) -> torch.Tensor:
    """Root mean square over each row's elements, in float32: shape [rows, ...] to [rows]."""
    return values.float().flatten(1).square().mean(1).sqrt()
