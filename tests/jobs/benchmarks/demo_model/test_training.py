"""Training on a micro configuration: stages, resuming, and the arithmetic they share."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from rich.console import Console
from torch import Tensor, nn

from jobs.benchmarks.demo_model.architecture import make_tokenizer, make_vae
from jobs.benchmarks.demo_model.palette import MUTED, palette_of
from jobs.benchmarks.demo_model.train.__main__ import main
from jobs.benchmarks.demo_model.train.config import (
    LoopConfig,
    TrainConfig,
    default_config,
    second_config,
)
from jobs.benchmarks.demo_model.train.dit import (
    draw_sigmas,
    embed_captions,
    make_denoiser,
    train_dit,
)
from jobs.benchmarks.demo_model.train.latents import Latents, encode_training_clips
from jobs.benchmarks.demo_model.train.loop import StoppedEarlyError, generator_for, optimise
from jobs.benchmarks.demo_model.train.run import train
from jobs.benchmarks.demo_model.train.vae import (
    reconstruction_loss,
    start_from_images,
    to_float,
    train_vae,
)
from jobs.benchmarks.demo_model.vae_ops import decode_clip, encode_clip, use_lean_norms
from jobs.benchmarks.demo_model.worlds import SpriteWorld

_MICRO_VAE = {"base_dim": 4, "decoder_base_dim": 4}
_LOOP = LoopConfig(
    steps=6, batch=2, learning_rate=1e-3, warmup=2, save_every=4, mixed_precision=False
)
_MICRO = TrainConfig(
    vae=_LOOP,
    dit=_LOOP,
    crop_steps=4,
    crop_batch=2,
    pool_clips=4,
    latent_clips=6,
    vae_changes=_MICRO_VAE,
    transformer_changes={
        "num_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "ffn_dim": 32,
        "freq_dim": 32,
        "text_dim": 16,
    },
    text_changes={"d_model": 16, "d_kv": 8, "d_ff": 16, "num_heads": 2, "num_layers": 1},
)


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(file=(tmp_path / "progress.txt").open("w", encoding="utf-8"))


@pytest.fixture
def latents() -> Latents:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(6, 16, 5, 8, 8, generator=generator).half()
    ones = torch.ones(16)
    attributes = torch.zeros(6, 5, dtype=torch.int64)
    return Latents(attributes, mean, torch.full_like(mean, 0.1), 0 * ones, ones)


def _same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(first, second, strict=True))


def test_whole_clip_passes_equal_the_chunked_ones() -> None:
    torch.manual_seed(0)
    vae = make_vae(**_MICRO_VAE)
    clip = torch.rand(2, 3, 17, 32, 32) * 2 - 1
    with torch.no_grad():
        mean, log_variance = encode_clip(vae, clip)
        posterior = vae.encode(clip).latent_dist
        torch.testing.assert_close(mean, posterior.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(log_variance, posterior.logvar, rtol=1e-4, atol=1e-5)
        decoded = decode_clip(vae, mean).clamp(-1, 1)
        torch.testing.assert_close(decoded, vae.decode(mean).sample, rtol=1e-4, atol=1e-5)


def test_whole_clip_passes_refuse_other_autoencoders() -> None:
    vae = make_vae(**_MICRO_VAE, is_residual=False)
    with pytest.raises(TypeError, match="is_residual"):
        encode_clip(vae, torch.zeros(1, 3, 1, 16, 16))
    with pytest.raises(TypeError, match="is_residual"):
        decode_clip(vae, torch.zeros(1, 16, 1, 2, 2))


def test_lean_norms_change_neither_values_nor_gradients() -> None:
    clip = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    results = []
    for lean in (False, True):
        torch.manual_seed(0)
        vae = make_vae(**_MICRO_VAE)
        if lean:
            use_lean_norms(vae)
        output = decode_clip(vae, encode_clip(vae, clip)[0])
        output.square().mean().backward()
        gradients = [p.grad for p in vae.parameters() if p.grad is not None]
        results.append([output.detach(), *gradients])
    for plain, lean_value in zip(*results, strict=True):
        torch.testing.assert_close(plain, lean_value, rtol=1e-3, atol=1e-6)


def test_image_start_ignores_the_past() -> None:
    torch.manual_seed(0)
    vae = make_vae(**_MICRO_VAE)
    clip = torch.rand(1, 3, 5, 16, 16)
    changed = clip.clone()
    changed[:, :, 0] = 0

    def influence() -> float:
        with torch.no_grad():
            return float((encode_clip(vae, clip)[0] - encode_clip(vae, changed)[0])[:, :, 1].norm())

    before = influence()
    start_from_images(vae)
    assert influence() < 0.5 * before


def test_reconstruction_loss_is_zero_only_for_equality_and_heavier_at_edges() -> None:
    target = -torch.ones(1, 3, 1, 16, 16)
    target[..., 8:] = 1
    assert reconstruction_loss(target, target) == 0
    at_edge, in_plain = target.clone(), target.clone()
    at_edge[..., 8, 8] += 0.5
    in_plain[..., 8, 2] += 0.5
    assert reconstruction_loss(at_edge, target) > 2 * reconstruction_loss(in_plain, target) > 0


def test_bytes_map_onto_the_range_of_clips() -> None:
    values = to_float(torch.tensor([0, 255], dtype=torch.uint8))
    assert values.tolist() == [-1.0, 1.0]


def test_sigmas_follow_the_shifted_schedule() -> None:
    sigmas = draw_sigmas(20_000, torch.Generator().manual_seed(0))
    assert sigmas.min() > 0
    assert sigmas.max() < 1
    # The median of the unshifted level is 1/2, which shift 3 takes to 3/4.
    assert sigmas.median() == pytest.approx(0.75, abs=0.01)


def test_embedding_equals_that_of_the_pipeline() -> None:
    tokenizer, text_encoder, transformer = make_denoiser(_MICRO)
    pipeline = WanPipeline(tokenizer, text_encoder, make_vae(**_MICRO_VAE), None, transformer)
    captions = ["a red circle moving left", ""]
    expected, _ = pipeline.encode_prompt(
        captions, do_classifier_free_guidance=False, max_sequence_length=32
    )
    embedded = embed_captions(captions, tokenizer, text_encoder)
    torch.testing.assert_close(embedded, expected)
    assert embedded.shape == (2, 32, 16)
    assert not embedded[1, 1:].any()


def test_steps_draw_from_generators_of_their_own() -> None:
    draws = {float(torch.rand(1, generator=generator_for(s, n))) for s in (0, 1) for n in range(9)}
    assert len(draws) == 18


def test_loop_minimises_and_leaves_the_average(tmp_path: Path, console: Console) -> None:
    weight = nn.Parameter(torch.tensor([4.0]))
    raw: list[float] = []

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        raw.append(weight.item())
        return weight.square().sum()

    config = replace(_LOOP, steps=200, learning_rate=0.1, ema_decay=0.9)
    optimise("toy", [weight], loss_of, config, tmp_path / "toy.pt", console)
    assert abs(weight.item()) < 0.5
    state = torch.load(tmp_path / "toy.pt", weights_only=True)
    assert state["step"] == 200
    assert torch.equal(state["average"][0], weight.detach())


@pytest.mark.slow
def test_resumed_autoencoder_equals_an_uninterrupted_one(tmp_path: Path, console: Console) -> None:
    whole = train_vae(_MICRO, tmp_path / "whole.pt", console)
    # Stopped off the saving grid: the third step is beyond any checkpoint but its own.
    with pytest.raises(StoppedEarlyError):
        train_vae(_MICRO, tmp_path / "parts.pt", console, stop_at=3)
    with pytest.raises(StoppedEarlyError):
        train_vae(_MICRO, tmp_path / "parts.pt", console, stop_at=5)
    parts = train_vae(_MICRO, tmp_path / "parts.pt", console)
    assert _same(list(whole.parameters()), list(parts.parameters()))


def test_resumed_denoiser_equals_an_uninterrupted_one(
    tmp_path: Path, console: Console, latents: Latents
) -> None:
    whole = train_dit(_MICRO, latents, tmp_path / "whole.pt", console)
    with pytest.raises(StoppedEarlyError):
        train_dit(_MICRO, latents, tmp_path / "parts.pt", console, stop_at=3)
    torch.rand(100)  # the state of the global generator must not matter
    parts = train_dit(_MICRO, latents, tmp_path / "parts.pt", console)
    for first, second in zip(whole, parts, strict=True):
        assert _same(list(first.parameters()), list(second.parameters()))
    states = [torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "parts.pt")]
    moments = [
        [value for entry in state["optimiser"]["state"].values() for value in entry.values()]
        for state in states
    ]
    assert _same(moments[0], moments[1])


def test_latents_are_normalised_and_read_back(tmp_path: Path, console: Console) -> None:
    torch.manual_seed(0)
    vae = make_vae(**_MICRO_VAE)
    first = encode_training_clips(vae, 6, tmp_path, console, mixed=False)
    torch.manual_seed(1)
    again = encode_training_clips(make_vae(**_MICRO_VAE), 6, tmp_path, console, mixed=False)
    assert torch.equal(first.mean, again.mean)
    assert first.mean.shape == (6, 16, 5, 8, 8)
    sample = first.sample(torch.arange(6), torch.Generator().manual_seed(0))
    assert sample.mean((0, 2, 3, 4)).abs().max() < 0.2
    assert (sample.std((0, 2, 3, 4)) - 1).abs().max() < 0.2


def test_command_trains_a_pipeline_that_samples(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path)]
    assert main(arguments, _MICRO) == 0
    saved = tmp_path / "pipeline" / "transformer" / "diffusion_pytorch_model.safetensors"
    first = saved.read_bytes()
    assert main(arguments, _MICRO) == 0  # finished stages are only read back
    assert saved.read_bytes() == first
    pipeline = WanPipeline.from_pretrained(tmp_path / "pipeline", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(
        "a red circle moving left",
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=2,
        output_type="pt",
        max_sequence_length=32,
        generator=torch.Generator().manual_seed(0),
    ).frames
    assert frames.shape == (1, 5, 3, 32, 32)
    assert frames.isfinite().all()


def test_a_second_model_takes_an_autoencoder_and_another_palette(
    tmp_path: Path, console: Console
) -> None:
    first = train(_MICRO, tmp_path / "first", console)
    second = train(
        replace(
            _MICRO,
            world=SpriteWorld(MUTED),
            autoencoder=first,
            dit=replace(_MICRO.dit, seed=9, steps=4),
        ),
        tmp_path / "second",
        console,
    )
    assert palette_of(first).name == "plain"
    assert palette_of(second).name == "muted"
    weights = "vae/diffusion_pytorch_model.safetensors"
    assert (second / weights).read_bytes() == (first / weights).read_bytes()
    assert not (tmp_path / "second" / "vae.pt").exists()


def test_second_configuration_is_another_model() -> None:
    first, second = default_config(), second_config()
    assert second.world != first.world
    assert second.dit.seed != first.dit.seed
    assert second.transformer_changes["num_layers"] < 6


def test_default_configuration_fits_the_card() -> None:
    config = default_config()
    assert config.crop_steps < config.vae.steps
    assert math.isclose(config.caption_dropout, 0.1)
    assert len(make_tokenizer()) < 64
