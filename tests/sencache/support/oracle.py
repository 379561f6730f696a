"""The verdicts of the paper and of the authors' code, written from the formulae alone.

Plain loops in double precision, one row at a time, that share no code with the package. The latents
of a run are arrays of shape [rows, ...], one per step; the timesteps are one number per step, or
one per step and row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

Array = np.ndarray


@dataclass
class Outcome:
    """What happens to one row.

    Attributes:
        decisions: C computed, R reused, per step.
        scores: S per step; NaN at the first.
        sources: Per step, the step whose result is used: itself where computed.
        margin: Smallest relative distance of a score from the threshold it was compared with:
            below some 1e-6 single precision may decide otherwise. Infinite without comparison.
    """

    decisions: str
    scores: list[float]
    sources: list[int]
    margin: float


def paper_decisions(
    x: Sequence[Array],
    t: Sequence[float],
    table: tuple[Sequence[float], Sequence[float], Sequence[float]],
    *,
    epsilon: float,
    strict_epsilon: float,
    strict_fraction: float,
    n: int,
    final: int = 1,
    train_timesteps: int = 1000,
) -> list[Outcome]:
    """The paper: S = a_x(r) rms(x - x_r) + a_t(r) |tau - tau_r|; reuse iff S <= epsilon, m < n.

    Args:
        x: Latents per step.
        t: Timestep per step, falling.
        table: tau (rising), a_x and a_t; linear in between and constant beyond.
        epsilon, strict_epsilon: Thresholds; during the first steps the smaller of the two holds.
        strict_fraction: Share of the steps, from the first, that are strict.
        n: Most reuses in a row.
        final: Steps at the end that compute.
        train_timesteps: t / tau.
    """
    steps = len(x)
    strict = round(Fraction(str(strict_fraction)) * steps)  # as written; a half goes to even

    def judge(step: int, row: int, r: int) -> tuple[float, float, bool]:
        tau, tau_r = t[step] / train_timesteps, t[r] / train_timesteps
        a_x, a_t = (float(np.interp(tau_r, table[0], column)) for column in table[1:])
        moved = x[step][row].astype(np.float64) - x[r][row].astype(np.float64)
        score = a_x * math.sqrt(float((moved**2).mean())) + a_t * abs(tau - tau_r)
        limit = min(epsilon, strict_epsilon) if step < strict else epsilon
        return score, limit, limit > 0 and score <= limit

    forced = [0, *range(max(steps - final, 0), steps)]
    return _run(judge, forced, n, steps, len(x[0]))


def official_decisions(
    x: Sequence[Array],
    t: Sequence[float],
    table: tuple[Sequence[float], Sequence[float], Sequence[float]],
    scale: float,
    *,
    epsilon: float,
    strict_epsilon: float,
    strict_fraction: float,
    n: int,
    calls_per_step: int = 1,
    final: int = 0,
) -> list[Outcome]:
    """The authors' code, but row by row: J_x ||x - x_r|| + J_t |t - t_r| < epsilon * scale.

    Args:
        x: Latents per step.
        t: Timestep per step.
        table: Timesteps in stored order, J_x and J_t there; the nearest counts.
        scale: The constant in the script.
        epsilon, strict_epsilon: Thresholds; the second as it is.
        strict_fraction: Share of the calls, from the first, that are under the second.
        n: Most reuses in a row.
        calls_per_step: Calls per step; a step's first call decides.
        final: Steps at the end that compute. The first computes because there is no other yet.
    """
    steps = len(x)
    strict_calls = round(steps * calls_per_step * strict_fraction)

    def judge(step: int, row: int, r: int) -> tuple[float, float, bool]:
        nearest = int(np.argmin([abs(stored - t[r]) for stored in table[0]]))
        moved = x[step][row].astype(np.float64) - x[r][row].astype(np.float64)
        error = table[1][nearest] * float(np.linalg.norm(moved))
        error += table[2][nearest] * abs(t[step] - t[r])
        limit = strict_epsilon if step * calls_per_step < strict_calls else epsilon
        return error / scale, limit, error < limit * scale

    forced = [0, *range(max(steps - final, 0), steps)]
    return _run(judge, forced, n, steps, len(x[0]))


def _run(judge, forced: Sequence[int], n: int, steps: int, rows: int) -> list[Outcome]:  # noqa: ANN001
    """Go through the steps of every row; judge gives score, threshold, and whether it is kept."""
    outcomes = []
    for row in range(rows):
        decisions, scores, sources, margin = "", [math.nan], [], math.inf
        r = reuses = 0
        for step in range(steps):
            reuse = False
            if step > 0:
                score, limit, below = judge(step, row, r)
                scores.append(score)
                if step not in forced and reuses < n:
                    reuse = below
                    if limit > 0:
                        margin = min(margin, abs(score - limit) / limit)
            if reuse:
                decisions, reuses = decisions + "R", reuses + 1
            else:
                decisions, reuses, r = decisions + "C", 0, step
            sources.append(r)
        outcomes.append(Outcome(decisions, scores, sources, margin))
    return outcomes
