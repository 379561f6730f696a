"""Compares the rows that a network computes in mixed batches with the rows that are needed.

Rows are counted where they enter the network's first block, independently of the cache's own
statistics and decisions.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from jobs.benchmarks.sampling.denoising_loop import (
    Arm,
    DenoisingLoop,
    LoopRun,
    now,
)

PLAIN_STEPS = 5
"""Steps of the short uncached runs that measure a forward of so many rows."""

UNCACHED = Arm("uncached")


@dataclass
class CallLog:
    """The calls of the networks in one run of the loop.

    Attributes:
        rows: Rows that reached the first block, for each call; 0 if none did.
        seconds: Seconds of each call, the cache's own work included.
    """

    rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The numbers of one batch size.

    Attributes:
        rows: Samples in the batch.
        steps: Steps of the sampler.
        mixed_steps: Steps at which some samples computed and others reused.
        nfe_mean: Network evaluations per sample, in steps.
        computed: Rows that the network computed, all guidance branches.
        needed: Rows that the same samples compute in batches of one.
        agreeing: Rows that the network computes if a step is computed for all samples as soon as
            one needs it, in a separate run.
        transformer_s: Seconds in the network's calls, median of the repeats.
        against_ideal: These seconds / seconds of plain forwards of the same rows in the same
            repeat, median.
        max_difference: Largest difference of a latent from the sample's batch of one, in units of
            that sample's rms.
        other_verdicts: Samples whose verdicts differ from those of their batch of one.
    """

    rows: int
    steps: int
    mixed_steps: int
    nfe_mean: float
    computed: int
    needed: int
    agreeing: int
    transformer_s: float
    against_ideal: float
    max_difference: float
    other_verdicts: int


def watched(loop: DenoisingLoop, arm: Arm) -> tuple[LoopRun, CallLog]:
    """Run the loop and log the calls of its networks."""
    log = CallLog()
    with contextlib.ExitStack() as stack:
        for network in loop.networks:
            stack.enter_context(_watch(network, log, loop.device))
        done = loop.run(arm)
    return done, log


def measure_batches(
    loop: DenoisingLoop, arm: Arm, agreeing: Mapping[int, Arm], repeats: int
) -> tuple[list[BatchResult], dict[int, float]]:
    """Measure batches of several sizes, each the first rows of the loop.

    Args:
        loop: As many rows as the largest batch.
        arm: A cached arm.
        agreeing: The same arm under the rule that all samples agree, by batch size.
        repeats: Repeats of the timed runs.

    Returns:
        One result per size, and the seconds of a plain forward by number of rows.
    """
    sizes = sorted(agreeing)
    watched(loop, UNCACHED)  # warm-up
    alone = [watched(loop.take(row, 1), arm) for row in range(sizes[-1])]
    plain: dict[int, list[float]] = {rows: [] for rows in range(1, sizes[-1] + 1)}
    timed: dict[int, list[tuple[LoopRun, CallLog]]] = {rows: [] for rows in sizes}
    for _ in range(repeats):
        for rows, seconds in plain.items():
            _, log = watched(loop.take(0, rows).shorter(PLAIN_STEPS), UNCACHED)
            seconds.append(statistics.fmean(log.seconds))
            if rows in timed:  # right after it, under the same load
                timed[rows].append(watched(loop.take(0, rows), arm))
    results = []
    for rows in sizes:
        _, together = watched(loop.take(0, rows), agreeing[rows])
        totals = [sum(log.seconds) for _, log in timed[rows]]
        ratios = [
            total / ideal_seconds(log.rows, {n: seconds[r] for n, seconds in plain.items()})
            for r, (total, (_, log)) in enumerate(zip(totals, timed[rows], strict=True))
        ]
        done, log = timed[rows][0]
        singles = [one for one, _ in alone[:rows]]
        results.append(
            BatchResult(
                rows=rows,
                steps=loop.steps,
                mixed_steps=mixed_steps(done.decisions),
                nfe_mean=statistics.fmean(done.nfe),
                computed=sum(log.rows),
                needed=sum(sum(one.rows) for _, one in alone[:rows]),
                agreeing=sum(together.rows),
                transformer_s=statistics.median(totals),
                against_ideal=statistics.median(ratios),
                max_difference=max(
                    relative_difference(done.latents[row], one.latents[0])
                    for row, one in enumerate(singles)
                ),
                other_verdicts=sum(
                    done.decisions[row] != one.decisions[0] for row, one in enumerate(singles)
                ),
            )
        )
    return results, {rows: statistics.median(seconds) for rows, seconds in plain.items()}


def mixed_steps(decisions: Sequence[str]) -> int:
    """Return the number of steps at which samples decide differently."""
    return sum(len(set(step)) > 1 for step in zip(*decisions, strict=True))


def ideal_seconds(rows_per_call: Sequence[int], seconds: Mapping[int, float]) -> float:
    """Return the seconds of calls that are plain forwards of their rows, 0 for no rows."""
    return sum(seconds[rows] for rows in rows_per_call if rows)


def relative_difference(latents: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the largest absolute difference in units of the reference's rms."""
    rms = reference.float().square().mean().sqrt()
    return float((latents.float() - reference.float()).abs().max() / rms)


@contextlib.contextmanager
def _watch(network: torch.nn.Module, log: CallLog, device: torch.device) -> Iterator[None]:
    began = 0.0

    def before(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        nonlocal began
        log.rows.append(0)
        began = now(device)

    def after(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        log.seconds.append(now(device) - began)

    def count(module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        tokens = args[0] if args else kwargs["hidden_states"]
        log.rows[-1] += tokens.shape[0]

    handles = [
        network.register_forward_pre_hook(before, prepend=True),
        network.register_forward_hook(after),
        _first_block(network).register_forward_pre_hook(count, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first_block(network: torch.nn.Module) -> torch.nn.Module:
    """Return the first block of a transformer, whatever the name of its list."""
    blocks = next(part for part in network.children() if isinstance(part, torch.nn.ModuleList))
    return blocks[0]
