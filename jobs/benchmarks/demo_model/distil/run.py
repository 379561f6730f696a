"""Trains the student on the teacher's trajectories.

Each step of the student learns the teacher's average velocity between two of the student's noise
levels, from the teacher's latents: progressive distillation (Salimans and Ho, 2022) of all levels
at once, with the guidance included (Meng et al., 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from jobs.benchmarks.demo_model.build import load_pipeline
from jobs.benchmarks.demo_model.distil.config import DistilConfig, noise_levels
from jobs.benchmarks.demo_model.distil.student import add_low_rank, save_adapter
from jobs.benchmarks.demo_model.distil.teacher import TIMESTEPS, Trajectories, make_trajectories
from jobs.benchmarks.demo_model.train.dit import plain_attention
from jobs.benchmarks.demo_model.train.loop import Loss, optimise
from pipeline.models.demo import WEIGHTS_DIR

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From latents, noise levels ``(rows,)`` and encoded captions to velocities."""


def step_loss(
    velocity: Velocity, data: Trajectories, config: DistilConfig, generator: torch.Generator
) -> Tensor:
    """Compares single steps with the teacher's, each from a latent of the teacher."""
    rows = config.loop.batch
    levels = torch.tensor(noise_levels(config.student_steps))
    run = torch.randint(0, len(data.points), (rows,), generator=generator)
    step = torch.randint(0, config.student_steps, (rows,), generator=generator)
    here, there = data.points[run, step].float(), data.points[run, step + 1].float()
    width = (levels[step + 1] - levels[step]).view(-1, 1, 1, 1, 1)
    made = velocity(here, levels[step], data.texts[run])
    return (made - (there - here) / width).square().mean()


def distil(
    config: DistilConfig, folder: Path, console: Console, stop_at: int | None = None
) -> Path:
    """Makes the trajectories and trains the student, resuming from what the folder holds.

    Args:
        config: Hyperparameters; the same as before when resuming.
        folder: Folder of the run, for trajectories, checkpoint and result.
        console: Where progress is shown.
        stop_at: Stop early after this many training steps in all, as a kill would.

    Returns:
        The file of the trained LoRA.

    Raises:
        StoppedEarlyError: The training stopped at ``stop_at``.
    """
    pipeline = load_pipeline(WEIGHTS_DIR)
    pipeline.text_encoder.requires_grad_(False)
    checkpoint = folder / "student.pt"
    with plain_attention():
        data = make_trajectories(pipeline, config, folder / "trajectories", console)
        adapter = add_low_rank(pipeline.transformer, config.rank, config.seed)
        parameters = [p for layer in adapter.values() for p in layer.parameters()]
        loss_of = _loss(pipeline.transformer, data, config)
        optimise("distil", parameters, loss_of, config.loop, checkpoint, console, stop_at)
    path = folder / "distilled.safetensors"
    save_adapter(adapter, path)
    console.log(f"saved {path}, {path.stat().st_size / 1e6:.1f} MB")
    return path


def _loss(network: torch.nn.Module, data: Trajectories, config: DistilConfig) -> Loss:
    def velocity(x: Tensor, levels: Tensor, texts: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.loop.mixed_precision):
            made: Tensor = network(x, TIMESTEPS * levels, texts, return_dict=False)[0]
        return made.float()

    return lambda _, generator: step_loss(velocity, data, config, generator)
