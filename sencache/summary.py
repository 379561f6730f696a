"""What the cache did in one pipeline call, in five lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sencache.stats import SampleStats


@dataclass(frozen=True, repr=False)
class CacheSummary:
    """Five lines about one pipeline call; `str` and `repr` are these lines.

    Attributes:
        samples: Statistics of each sample, in batch order; empty before the first call.
        policy: Name of the policy.
        profile: Which profile decided, in words.
    """

    samples: tuple[SampleStats, ...]
    policy: str
    profile: str

    @property
    def nfe(self) -> float | None:
        """Mean NFE per sample; None before the first call."""
        return _mean([sample.nfe for sample in self.samples])

    @property
    def reuse_ratio(self) -> float | None:
        """Reused steps / steps over all samples; None before the first call."""
        steps = sum(len(sample.decisions) for sample in self.samples)
        return sum(sample.reused for sample in self.samples) / steps if steps else None

    def __str__(self) -> str:
        return "\n".join(
            (
                f"steps:   {self._steps()}",
                f"NFE:     {self._nfe()}",
                f"reused:  {self._reused()}",
                f"error:   {self._error()}",
                f"profile: {self.profile}",
            )
        )

    __repr__ = __str__

    def _steps(self) -> str:
        if not self.samples:
            return f'no call yet, policy "{self.policy}"'
        steps = _span([len(sample.decisions) for sample in self.samples])
        many = "sample" if len(self.samples) == 1 else "samples"
        return f'{steps} for {len(self.samples)} {many}, policy "{self.policy}"'

    def _nfe(self) -> str:
        if self.nfe is None:
            return "unknown before the first call"
        rows = _mean([sample.evaluations for sample in self.samples])
        span = _span([sample.nfe for sample in self.samples])
        return f"{self.nfe:g} in the mean per sample ({span}), {rows:g} rows through the network"

    def _reused(self) -> str:
        return "unknown before the first call" if self.reuse_ratio is None else _percent(self)

    def _error(self) -> str:
        if self.samples and not any(sample.reused for sample in self.samples):
            return "none: every step was computed"
        promised = _mean(_known([sample.promised_error for sample in self.samples]))
        predicted = _mean(_known([sample.predicted_error for sample in self.samples]))
        actual = _mean(_known([sample.actual_error for sample in self.samples]))
        parts = []
        if promised is not None:
            parts.append(f"final latents {promised:.2%} promised")
        if promised is not None and predicted is not None and actual is not None:
            parts.append(
                f"computed steps {predicted:.3g} rms predicted for the guided output; {actual:.3g} "
                "measured for the conditional branch, another quantity"
            )
        elif predicted is not None and actual is not None:
            parts.append(f"computed steps {predicted:.3g} rms predicted, {actual:.3g} measured")
        return "; ".join(parts) or "not known"


def _percent(summary: CacheSummary) -> str:
    reused = sum(sample.reused for sample in summary.samples)
    steps = sum(len(sample.decisions) for sample in summary.samples)
    return f"{reused / steps:.0%} ({reused} of {steps} steps)"


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
