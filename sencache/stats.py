"""What the cache did, per sample."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True)
class SampleStats:
    """Outcome of the cache for one sample (one row of the conditional branch).

    Attributes:
        policy: Name of the policy.
        profile: Hash of the sensitivity profile; "" without one.
        nfe: Network evaluations that really ran, in steps; guidance branches do not count twice.
        reused: Steps that reused an earlier output.
        decisions: One character per step: C computed, R reused.
        predicted_error: Mean score S over the computed steps after the first: the rms change of
            the output that the profile predicted. None without a profile or such a step, or where
            it is not finite.
        actual_error: Mean over the same steps of the change itself, rms(f_new - f_r). None
            without such a step, or where it is not finite.
        max_score: Largest S that was reused; 0 if nothing was.
    """

    policy: str
    profile: str
    nfe: int
    reused: int
    decisions: str
    predicted_error: float | None
    actual_error: float | None
    max_score: float

    def to_dict(self) -> dict[str, str | int | float | None]:
        """The fields as JSON values."""
        return asdict(self)


class StatsRecorder:
    """Accumulates the statistics of one run on the device; one transfer when they are asked for.

    Decisions are known on the host anyway, because the host had to launch the network for them.
    """

    def __init__(self, rows: int, device: torch.device, policy: str, profile: str) -> None:
        self._policy, self._profile = policy, profile
        self._decisions: list[list[str]] = [[] for _ in range(rows)]
        # Rows: sum of S, sum of rms(f_new - f_r), largest reused S.
        self._sums = torch.zeros(3, rows, device=device)

    def record_first(self) -> None:
        """Note a step that every row computed with nothing to compare to."""
        for decisions in self._decisions:
            decisions.append("C")

    def record(
        self,
        computed: list[bool],
        computed_mask: torch.Tensor,
        score: torch.Tensor,
        change: torch.Tensor,
    ) -> None:
        """Note one step.

        Args:
            computed: Verdict per row.
            computed_mask: The same on the device, shape [rows].
            score: S of each row, shape [rows].
            change: rms(f_new - f_r) of each row, shape [rows]; only read where computed.
        """
        for decisions, ran in zip(self._decisions, computed, strict=True):
            decisions.append("C" if ran else "R")
        predicted, actual, largest = self._sums
        self._sums = torch.stack(
            [
                torch.where(computed_mask, predicted + score, predicted),
                torch.where(computed_mask, actual + change, actual),
                torch.where(computed_mask, largest, torch.maximum(largest, score)),
            ]
        )

    def samples(self) -> list[SampleStats]:
        """The statistics so far, one per row."""
        return [
            self._sample("".join(decisions), *sums)
            for decisions, sums in zip(self._decisions, self._sums.T.tolist(), strict=True)
        ]

    def _sample(
        self, decisions: str, predicted: float, actual: float, largest: float
    ) -> SampleStats:
        nfe = decisions.count("C")
        refreshes = nfe - 1  # the first has no earlier output to be compared with
        return SampleStats(
            policy=self._policy,
            profile=self._profile,
            nfe=nfe,
            reused=decisions.count("R"),
            decisions=decisions,
            predicted_error=_mean(predicted, refreshes),
            actual_error=_mean(actual, refreshes),
            max_score=largest,
        )


def _mean(total: float, count: int) -> float | None:
    return None if count < 1 or not math.isfinite(total) else total / count
