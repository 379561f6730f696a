"""The distillation on a micro configuration: teacher, student, resuming, and the file it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from rich.console import Console
from safetensors.torch import load_file

from jobs.benchmarks.demo_model.build import load_pipeline
from jobs.benchmarks.demo_model.distil.__main__ import main
from jobs.benchmarks.demo_model.distil.config import (
    DistilConfig,
    default_config,
    noise_levels,
)
from jobs.benchmarks.demo_model.distil.run import distil, step_loss
from jobs.benchmarks.demo_model.distil.student import add_low_rank, save_adapter
from jobs.benchmarks.demo_model.distil.teacher import (
    LATENT_SHAPE,
    Trajectories,
    make_trajectories,
    run_teacher,
)
from jobs.benchmarks.demo_model.train.config import LoopConfig
from jobs.benchmarks.demo_model.train.dit import embed_captions
from jobs.benchmarks.demo_model.train.loop import StoppedEarlyError
from pipeline.models.demo import WEIGHTS_DIR
from pipeline.models.recipes import get_recipe

_LOOP = LoopConfig(
    steps=4, batch=4, learning_rate=1e-3, warmup=1, save_every=2, mixed_precision=False
)
_MICRO = DistilConfig(loop=_LOOP, trajectories=3, teacher_steps=4, rank=2)
_QUIET = Console(quiet=True)


def test_the_recipe_samples_at_the_levels_that_the_student_is_trained_at() -> None:
    levels = noise_levels(default_config().student_steps)
    sigmas = get_recipe("demo", "distilled-4step").sampling["sigmas"]
    assert (*sigmas, 0.0) == pytest.approx(levels)


def test_the_teacher_passes_the_student_s_levels_or_is_refused() -> None:
    assert noise_levels(20)[::5] == pytest.approx(noise_levels(4))
    with pytest.raises(ValueError, match="multiple"):
        replace(_MICRO, teacher_steps=6)


@pytest.mark.variant
@torch.no_grad()
def test_the_teacher_s_solver_converges_to_what_euler_converges_to() -> None:
    pipeline = load_pipeline(WEIGHTS_DIR)
    texts = embed_captions(["a red circle moving left"], pipeline.tokenizer, pipeline.text_encoder)
    empty = embed_captions([""], pipeline.tokenizer, pipeline.text_encoder)
    noise = torch.randn(1, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0))
    made = run_teacher(pipeline, texts, empty, noise, default_config())
    assert torch.equal(made[:, 0], noise)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=noise_levels(200)[:-1])
    latents = noise
    for time in scheduler.timesteps:
        with_text, without = (
            pipeline.transformer(latents, time.expand(1), text, return_dict=False)[0]
            for text in (texts, empty)
        )
        velocity = without + default_config().guidance_scale * (with_text - without)
        latents = scheduler.step(velocity, time, latents, return_dict=False)[0]
    off = (made[:, -1] - latents).square().mean().sqrt()
    assert off < 0.1  # where latents spread by 1.1, and Euler with 24 steps is off by 0.11


def _straight(runs: int = 5) -> tuple[Trajectories, torch.Tensor]:
    """Trajectories that go straight from noise to clips, and their velocities."""
    generator = torch.Generator().manual_seed(3)
    noise, clips = torch.randn(2, runs, *LATENT_SHAPE, generator=generator)
    levels = torch.tensor(noise_levels(4)).view(1, -1, 1, 1, 1, 1)
    points = levels * noise[:, None] + (1 - levels) * clips[:, None]
    texts = torch.arange(runs).float().view(-1, 1, 1)  # tells which run it is
    return Trajectories(points, texts), noise - clips


def test_the_loss_vanishes_for_the_true_velocity_and_for_no_other() -> None:
    data, velocities = _straight()

    def true(x: torch.Tensor, levels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return velocities[texts.flatten().long()]

    def halved(x: torch.Tensor, levels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return true(x, levels, texts) / 2

    seeded = torch.Generator().manual_seed(0)
    assert step_loss(true, data, _MICRO, seeded) < 1e-4  # trajectories are kept in half precision
    assert step_loss(halved, data, _MICRO, seeded) > 0.1


def test_a_fresh_lora_changes_nothing_and_its_file_has_the_layout_of_diffusers(
    tmp_path: Path,
) -> None:
    network = load_pipeline(WEIGHTS_DIR).transformer
    inputs = (torch.ones(1, *LATENT_SHAPE), torch.tensor([500.0]), torch.ones(1, 4, 128))
    with torch.no_grad():
        before = network(*inputs, return_dict=False)[0]
        adapter = add_low_rank(network, 2, 0)
        torch.testing.assert_close(network(*inputs, return_dict=False)[0], before)
        for layer in adapter.values():
            layer.up.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
        changed = network(*inputs, return_dict=False)[0]
    assert not torch.allclose(changed, before, atol=1e-2)
    save_adapter(adapter, tmp_path / "lora.safetensors")
    pipeline = load_pipeline(WEIGHTS_DIR)
    pipeline.load_lora_weights(load_file(tmp_path / "lora.safetensors"), adapter_name="x")
    pipeline.transformer.fuse_lora(adapter_names=["x"])
    with torch.no_grad():
        fused = pipeline.transformer(*inputs, return_dict=False)[0]
    torch.testing.assert_close(fused, changed, atol=5e-3, rtol=5e-3)  # the file is float16


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = distil(_MICRO, tmp_path / "whole", _QUIET)
    folder = tmp_path / "parts"
    with pytest.raises(StoppedEarlyError):
        distil(_MICRO, folder, _QUIET, stop_at=3)
    resumed = distil(_MICRO, folder, _QUIET)
    one, other = load_file(whole), load_file(resumed)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(bool(one[name].any()) for name in one if "lora_B" in name)


def test_trajectories_are_read_back_and_not_made_again(tmp_path: Path) -> None:
    pipeline = load_pipeline(WEIGHTS_DIR)
    first = make_trajectories(pipeline, _MICRO, tmp_path, _QUIET)
    del pipeline.transformer  # nothing can be made any more
    again = make_trajectories(pipeline, _MICRO, tmp_path, _QUIET)
    assert torch.equal(first.points, again.points)
    assert first.points.shape == (3, 5, *LATENT_SHAPE)


def test_the_command_leaves_the_lora_in_its_folder(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--threads", "1"], _MICRO) == 0
    assert (tmp_path / "distilled.safetensors").stat().st_size > 0
