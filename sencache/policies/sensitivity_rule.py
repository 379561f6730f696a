"""The rule of the paper on tensors: score, threshold and verdict of every row at one step.

Knows neither networks nor diffusers; `sencache.policies.sensitivity` applies it to calls. All
tensors are of shape [rows] on the device of the latents, so that deciding needs no transfer to the
host.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sencache.config import SenCacheConfig
from sencache.profiles.interpolation import Curve

CORRECTION_WEIGHT = 0.5
"""Weight of the newest ratio of true to predicted change in a row's factor."""
CORRECTION_LIMIT = 100.0
"""Largest ratio that counts, and the inverse of the smallest: limits what one odd step does."""


@dataclass(frozen=True)
class RowMemory:
    """What each row remembers of its last computed step ``r``.

    Attributes:
        tau: tau at r.
        a_x, a_t: Sensitivities at r, kept until the next computed step.
        reuses: Reuses in a row since r.
        seen_tau: tau of the latest step, computed or reused.
        log_ratio, weight: Exponentially weighted sum of log(true / predicted change), and of the
            weights; both 0 before the first refresh.
    """

    tau: torch.Tensor
    a_x: torch.Tensor
    a_t: torch.Tensor
    reuses: torch.Tensor
    seen_tau: torch.Tensor
    log_ratio: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True)
class Verdict:
    """The outcome for each row.

    Attributes:
        compute: True where the network has to run.
        score: S, the predicted rms change of the output since the last computed step.
        uncorrected: S as the profile has it, before the row's own factor.
        all_compute: Whether the host knows without a transfer that every row computes.
    """

    compute: torch.Tensor
    score: torch.Tensor
    uncorrected: torch.Tensor
    all_compute: bool = False


class SensitivityRule:
    """SenCache's rule for the rows of one branch.

    S = a_x(r) * rms(x - x_r) + a_t(r) * |tau - tau_r|; reuse iff S <= threshold and fewer than n
    reuses in a row came before (arXiv 2602.24208). x - x_r is the vector sum of all moves since
    r, so a path that returns to x_r has a distance of 0.
    """

    def __init__(self, config: SenCacheConfig, curve: Curve | None) -> None:
        """Set up the rule.

        Args:
            config: Thresholds and cap.
            curve: Sensitivities of the branch. None is allowed where nothing is ever reused;
                scores are NaN then.
        """
        self._config = config
        self._curve = curve
        self._strict = min(config.strict_epsilon, config.epsilon)

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
                "num_inference_steps through cache_context; give apply_sencache the pipeline "
                "instead of its transformer, or set SenCacheConfig.num_inference_steps"
            )
        if step == 0 or step >= num_steps - config.final_computed:
            return 0.0
        return self._strict if step < self._strict_steps(num_steps) else config.epsilon

    def _strict_steps(self, num_steps: int) -> int:
        """Steps at the start of a run that are under the strict threshold."""
        return round(self._config.strict_fraction * num_steps)

    def _below(self, score: torch.Tensor, threshold: float | torch.Tensor) -> torch.Tensor:
        """Whether a score permits reuse."""
        return score <= threshold

    def thresholds(self, steps: torch.Tensor, num_steps: int) -> torch.Tensor:
        """:meth:`threshold` for rows at their own steps, float32, shape [rows].

        For runs that begin within the sampler's schedule: their first step has nothing to reuse.
        """
        config = self._config
        if not config.may_reuse:
            return torch.zeros_like(steps, dtype=torch.float32)
        early = steps < self._strict_steps(num_steps)
        value = torch.where(early, self._strict, config.epsilon)
        return torch.where(steps >= num_steps - config.final_computed, 0.0, value).float()

    def verdict(
        self,
        memory: RowMemory,
        tau: torch.Tensor,
        distance: torch.Tensor,
        threshold: float | torch.Tensor,
    ) -> Verdict:
        """Decide one step.

        A row whose score is NaN computes, so that a row that went bad never reuses its own bad
        output. A row whose tau rose computes too, because it has started over.

        Args:
            memory: The rows' memory.
            tau: Time of this step.
            distance: rms(x - x_r) of each row.
            threshold: From :meth:`threshold` or :meth:`thresholds`.
        """
        raw = memory.a_x * distance + memory.a_t * (tau - memory.tau).abs()
        score = raw * self._factor(memory) if self._config.correct else raw
        if isinstance(threshold, float) and threshold <= 0.0:
            return Verdict(torch.ones_like(tau, dtype=torch.bool), score, raw, all_compute=True)
        # A threshold of 0 reuses nothing, also where S is exactly 0.
        allowed = True if isinstance(threshold, float) else threshold > 0.0
        below, under_cap = self._below(score, threshold), memory.reuses < self._config.max_reuse
        reuse = below & allowed & under_cap & (tau <= memory.seen_tau)
        return Verdict(~reuse, score, raw)

    def begin(self, tau: torch.Tensor) -> RowMemory:
        """Memory after a step that every row computed."""
        a_x, a_t = self._sensitivities(tau)
        none = torch.zeros_like(tau)
        return RowMemory(tau, a_x, a_t, none.int(), tau, none, none)

    def advance(
        self, memory: RowMemory, tau: torch.Tensor, verdict: Verdict, change: torch.Tensor
    ) -> RowMemory:
        """Memory after a step.

        Args:
            memory: Memory before it.
            tau: Time of the step.
            verdict: What was done: where it says compute, the network ran.
            change: rms(f_new - f_r) of each row; only read where the network ran.
        """
        compute = verdict.compute
        a_x, a_t = self._sensitivities(tau)
        log_ratio, weight = memory.log_ratio, memory.weight
        if self._config.correct:
            log_ratio, weight = self._learn(memory, verdict, change)
        if verdict.all_compute:
            none = torch.zeros_like(memory.reuses)
            return RowMemory(tau, a_x, a_t, none, tau, log_ratio, weight)
        return RowMemory(
            tau=torch.where(compute, tau, memory.tau),
            a_x=torch.where(compute, a_x, memory.a_x),
            a_t=torch.where(compute, a_t, memory.a_t),
            reuses=torch.where(compute, 0, memory.reuses + 1),
            seen_tau=tau,
            log_ratio=log_ratio,
            weight=weight,
        )

    def _learn(
        self, memory: RowMemory, verdict: Verdict, change: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the ratio of true to predicted change to the average of its logarithm.

        Logarithms, because a wrong profile is wrong by a factor, and because a ratio of ten and
        one of a tenth should cancel.
        """
        ratio = (change / verdict.uncorrected).clamp(1 / CORRECTION_LIMIT, CORRECTION_LIMIT)
        usable = verdict.compute & ratio.isfinite() & (verdict.uncorrected > 0.0)
        keep = 1.0 - CORRECTION_WEIGHT
        return (
            torch.where(
                usable, keep * memory.log_ratio + CORRECTION_WEIGHT * ratio.log(), memory.log_ratio
            ),
            torch.where(usable, keep * memory.weight + CORRECTION_WEIGHT, memory.weight),
        )

    @staticmethod
    def _factor(memory: RowMemory) -> torch.Tensor:
        """The factor of S: 1 before the first refresh, then the weighted mean ratio."""
        known = memory.weight > 0.0
        return torch.where(known, memory.log_ratio / memory.weight.clamp(min=1e-6), 0.0).exp()

    def _sensitivities(self, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._curve is None:
            unknown = torch.full_like(tau, torch.nan)
            return unknown, unknown
        return self._curve(tau)
