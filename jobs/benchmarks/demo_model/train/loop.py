"""A resumable optimisation loop with averaged weights and live progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from jobs.benchmarks.demo_model.train.config import LoopConfig

Loss = Callable[[int, torch.Generator], Tensor]
"""Computes the loss of a step from its number and its source of randomness."""

_LOG_EVERY = 100


class StoppedEarlyError(Exception):
    """A loop stopped before its last step, as it was told to; its checkpoint is saved."""


def generator_for(seed: int, step: int) -> torch.Generator:
    """Returns the generator of one step.

    No random state is carried from step to step, so a resumed run sees the same data.
    """
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def save_atomically(state: object, path: Path) -> None:
    """Saves a checkpoint such that a kill leaves either the old or the new one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to one hundredth of the peak."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / config.steps)
    return config.learning_rate * min(1.0, (step + 1) / config.warmup) * (0.01 + 0.99 * cosine)


class _TrainingState:
    """The mutable state of a loop; a checkpoint holds all of it."""

    def __init__(self, parameters: Sequence[nn.Parameter], config: LoopConfig) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.step = 0
        self.average = [p.detach().clone() for p in self.parameters]
        matrices = [p for p in self.parameters if p.ndim >= 2]
        vectors = [p for p in self.parameters if p.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=config.betas,
        )

    @torch.no_grad()
    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        for target, source in (
            (self.parameters, state["parameters"]),
            (self.average, state["average"]),
        ):
            for p, q in zip(target, source, strict=True):
                p.copy_(q)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        save_atomically(state, path)

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        warm = min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, self.parameters, 1 - warm)


@torch.no_grad()
def load_average(parameters: Sequence[nn.Parameter], checkpoint: Path) -> int:
    """Puts the averaged weights of a checkpoint in place.

    Args:
        parameters: As they were given to :func:`optimise`.
        checkpoint: The checkpoint.

    Returns:
        The number of steps that it was saved after.
    """
    state = torch.load(checkpoint, weights_only=True)
    for p, q in zip(parameters, state["average"], strict=True):
        p.copy_(q)
    return int(state["step"])


def optimise(
    name: str,
    parameters: Sequence[nn.Parameter],
    loss_of: Loss,
    config: LoopConfig,
    checkpoint: Path,
    console: Console,
    stop_at: int | None = None,
) -> None:
    """Runs a loop from its checkpoint, if any, and leaves the averaged weights in place.

    Args:
        name: Title of the progress line.
        parameters: What to optimise, in an order that does not change between runs.
        loss_of: The loss of a step.
        config: Hyperparameters.
        checkpoint: Where the state is saved and resumed from.
        console: Where progress is shown.
        stop_at: Stop early after this many steps in all, as a kill would.

    Raises:
        StoppedEarlyError: The loop stopped at ``stop_at``; the parameters are not averaged.
    """
    run = _TrainingState(parameters, config)
    if checkpoint.exists():
        run.load(checkpoint)
        console.log(f"{name}: resumed at step {run.step}")
    end = config.steps if stop_at is None else min(stop_at, config.steps)
    recent: list[float] = []
    started, first = time.monotonic(), run.step
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
        console=console,
    )
    with progress:
        task = progress.add_task(name, total=config.steps, completed=run.step, loss="-")
        while run.step < end:
            for group in run.optimiser.param_groups:
                group["lr"] = _learning_rate(config, run.step)
            loss = loss_of(run.step, generator_for(config.seed, run.step))
            run.optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(run.parameters, 1.0)
            run.optimiser.step()
            run.step += 1
            run.update_average(config.ema_decay)
            recent = [*recent[1 - _LOG_EVERY :], loss.item()]
            mean = sum(recent) / len(recent)
            progress.update(task, completed=run.step, loss=f"{mean:.4f}")
            if run.step % _LOG_EVERY == 0:
                pace = (time.monotonic() - started) / (run.step - first)
                left = pace * (config.steps - run.step) / 60
                console.log(
                    f"{name}: step {run.step}/{config.steps}, loss {mean:.4f},"
                    f" {pace:.3f} s/step, {left:.1f} min left"
                )
            if run.step % config.save_every == 0 or run.step == end:
                run.save(checkpoint)
    if run.step < config.steps:
        raise StoppedEarlyError(f"{name}: stopped at step {run.step} of {config.steps}")
    with torch.no_grad():
        for p, q in zip(run.parameters, run.average, strict=True):
            p.copy_(q)
