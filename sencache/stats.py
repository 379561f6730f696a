"""What the cache did, per sample: decisions, evaluations, predicted and actual errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch


@dataclass(frozen=True)
class Refresh:
    """A computed step after the first, compared with the output that it replaced.

    Attributes:
        step: Index of the step.
        predicted: S of the step: the rms change of the output since the last computed step that
            the policy expected. None without a profile or where it is not finite.
        actual: That change itself, rms(f_new - f_r). None where it is not finite.
    """

    step: int
    predicted: float | None
    actual: float | None


@dataclass(frozen=True)
class SampleStats:
    """Outcome of the cache for one sample.

    Attributes:
        policy: Name of the policy.
        profile: Hash of the sensitivity profile; "" without one.
        nfe: Network evaluations that really ran, in steps, of the conditional branch; guidance
            branches do not count twice.
        reused: Steps that reused an earlier output.
        decisions: One character per step: C computed, R reused.
        evaluations: Rows that went through the network for this sample, all branches. Twice `nfe`
            under guidance, unless the branches decide for themselves.
        predicted_error: Mean of `predicted` over the refreshes that have one; None without.
        actual_error: Mean of `actual` over the refreshes that have one; None without.
        max_score: Largest S that was reused; 0 if nothing was.
        refreshes: Predicted and actual change at every computed step after the first.
        promised_error: Error of the final latents that the profile promises for the run's cache
            schedule, relative to their rms; None without a cache schedule.
    """

    policy: str
    profile: str
    nfe: int
    reused: int
    decisions: str
    evaluations: int
    predicted_error: float | None
    actual_error: float | None
    max_score: float
    refreshes: tuple[Refresh, ...] = ()
    promised_error: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


class Recorder(Protocol):
    """Statistics of one network's run.

    Attributes:
        rows: Samples in the batch.
    """

    rows: int

    def samples(self) -> list[SampleStats]:
        """The statistics so far, one per sample."""
        ...


class StatsRecorder:
    """Keeps the statistics of one trajectory on the device until they are read, in one transfer.

    Decisions are on the host already, because the host launches the network.
    """

    def __init__(self, rows: int, policy: str, profile: str) -> None:
        self.rows = rows
        self._policy, self._profile = policy, profile
        self._decisions: list[list[str]] = [[] for _ in range(rows)]
        self._evaluations = [0] * rows
        # Per step that had an earlier output: S and rms(f_new - f_r), shape [2, rows].
        self._measured: dict[int, torch.Tensor] = {}
        self._promised: float | None = None

    def promise(self, error: float) -> None:
        """Note the relative error of the final latents that the run's cache schedule promises."""
        self._promised = error

    def count(self, ran: Sequence[bool]) -> None:
        """Note which rows of a call went through the network, one block of rows per branch."""
        for row, computed in enumerate(ran):
            self._evaluations[row % len(self._evaluations)] += computed

    def record(
        self,
        computed: Sequence[bool],
        score: torch.Tensor | None = None,
        change: torch.Tensor | None = None,
    ) -> None:
        """Note a step.

        Args:
            computed: Verdict per row.
            score: S of each row, shape [rows]; None where there was nothing to compare with.
            change: rms(f_new - f_r) of each row, shape [rows]; only read where computed.
        """
        if score is not None and change is not None:
            self._measured[len(self._decisions[0])] = torch.stack([score, change])
        for decisions, ran in zip(self._decisions, computed, strict=True):
            decisions.append("C" if ran else "R")

    def samples(self) -> list[SampleStats]:
        """The statistics so far, one per row."""
        measured: dict[int, Any] = {}
        if self._measured:
            values = torch.stack(list(self._measured.values())).tolist()
            measured = dict(zip(self._measured, values, strict=True))
        pairs = [
            {step: (score[row], change[row]) for step, (score, change) in measured.items()}
            for row in range(self.rows)
        ]
        return [self._sample(row, of_row) for row, of_row in enumerate(pairs)]

    def _sample(self, row: int, measured: dict[int, tuple[float, float]]) -> SampleStats:
        decisions = "".join(self._decisions[row])
        refreshes = tuple(
            Refresh(step, _finite(score), _finite(change))
            for step, (score, change) in measured.items()
            if decisions[step] == "C"
        )
        reused = [score for step, (score, _) in measured.items() if decisions[step] == "R"]
        return SampleStats(
            policy=self._policy,
            profile=self._profile,
            nfe=decisions.count("C"),
            reused=decisions.count("R"),
            decisions=decisions,
            evaluations=self._evaluations[row],
            predicted_error=_mean([refresh.predicted for refresh in refreshes]),
            actual_error=_mean([refresh.actual for refresh in refreshes]),
            max_score=max(reused, default=0.0),
            refreshes=refreshes,
            promised_error=self._promised,
        )


class RunLog:
    """The recorders of the networks that take part in one call of a pipeline.

    Wan 2.2 has two networks that follow one another: the statistics of a sample are those of both.
    Another run begins when a network begins again, with another batch, in another run of the
    scheduler, or after the end of a call. A clip that is made in chunks has a recorder for each.
    """

    def __init__(self) -> None:
        self._recorders: dict[int, list[Recorder]] = {}
        self._ended = False
        self._run: object | None = None

    def begin(
        self,
        network: int,
        recorder: Recorder,
        run: object | None = None,
        *,
        next_chunk: bool = False,
    ) -> None:
        """Add the recorder of a network that starts a trajectory.

        Args:
            network: Differs from network to network.
            recorder: Of the trajectory.
            run: Differs from run to run of the scheduler.
            next_chunk: Whether the trajectory continues the clips of the one before it.
        """
        rows = {recorder.rows} | {known[-1].rows for known in self._recorders.values()}
        other = run is not self._run or network in self._recorders
        if self._ended or len(rows) > 1 or (other and not next_chunk):
            self._recorders, self._ended = {}, False
        self._run = run
        self._recorders.setdefault(network, []).append(recorder)

    def end(self) -> None:
        """Note that the pipeline's call is over."""
        self._ended = True

    def samples(self) -> list[SampleStats]:
        """The statistics of the current or last run, one per sample; empty before the first."""
        parts = [each.samples() for chunks in self._recorders.values() for each in chunks]
        return [join_stats(sample) for sample in zip(*parts, strict=True)]


def join_stats(parts: Sequence[SampleStats]) -> SampleStats:
    """Statistics of one sample over the networks that shared its steps, in their order."""
    refreshes: list[Refresh] = []
    steps = 0
    for part in parts:
        refreshes += [replace(refresh, step=refresh.step + steps) for refresh in part.refreshes]
        steps += len(part.decisions)
    return SampleStats(
        policy=parts[0].policy,
        profile=parts[0].profile,
        nfe=sum(part.nfe for part in parts),
        reused=sum(part.reused for part in parts),
        decisions="".join(part.decisions for part in parts),
        evaluations=sum(part.evaluations for part in parts),
        predicted_error=_mean([refresh.predicted for refresh in refreshes]),
        actual_error=_mean([refresh.actual for refresh in refreshes]),
        max_score=max(part.max_score for part in parts),
        refreshes=tuple(refreshes),
        promised_error=next(
            (part.promised_error for part in parts if part.promised_error is not None), None
        ),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
