"""Hyperparameters of the distillation."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.benchmarks.demo_model.train.config import LoopConfig
from pipeline.models.demo import DEFAULTS, FLOW_SHIFT


@dataclass(frozen=True)
class DistilConfig:
    """A distillation run.

    Attributes:
        loop: The optimisation loop; a batch counts network rows.
        trajectories: Runs of the teacher that the student learns from.
        teacher_steps: Steps of the teacher's second-order solver; a multiple of the student's.
        student_steps: Steps of the student.
        guidance_scale: Guidance of the teacher, which the student learns to do without.
        rank: Rank of the LoRA.
        seed: Seed of the captions and noises, and of the LoRA's first weights.
    """

    loop: LoopConfig
    trajectories: int = 1024
    teacher_steps: int = 20
    student_steps: int = 4
    guidance_scale: float = DEFAULTS.guidance_scale
    rank: int = 64
    seed: int = 40

    def __post_init__(self) -> None:
        """Check that the teacher passes through the student's noise levels.

        Raises:
            ValueError: The teacher's steps are no multiple of the student's.
        """
        if self.teacher_steps % self.student_steps:
            raise ValueError("teacher_steps must be a multiple of student_steps")


def default_config() -> DistilConfig:
    """Returns the configuration that the shipped adapter was trained with."""
    return DistilConfig(
        loop=LoopConfig(
            steps=1200,
            batch=16,
            learning_rate=1e-3,
            warmup=50,
            weight_decay=0.0,
            ema_decay=0.99,
            save_every=100,
            seed=41,
        )
    )


def noise_levels(steps: int) -> list[float]:
    """Returns the noise levels of the demo's sampler at a number of steps, 1 first and 0 last."""
    uniform = [1 - step / steps for step in range(steps + 1)]
    return [FLOW_SHIFT * u / (1 + (FLOW_SHIFT - 1) * u) for u in uniform]
