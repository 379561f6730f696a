"""Calibration on given clips: encoding, layout, noise, and what the networks see."""

from __future__ import annotations

import copy
import dataclasses
import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchHeunDiscreteScheduler,
    LTXPipeline,
)

from sencache import ProfileError, SensitivityProfile, calibrate
from sencache.calibration.clips import ClipLatents, NoisedClips, encode_clips
from sencache.families.cogvideox import COGVIDEOX
from sencache.families.ltx import LTX
from sencache.families.wan import WAN
from sencache.hook.call import Call
from tests.sencache.calibration.test_journal import Memory
from tests.sencache.support.toys import (
    CHANNELS,
    LINEAR,
    LinearPipe,
    LinearTransformer,
    embeddings,
    euler,
    tiny_pipe,
    unipc,
)


def video(seed: int, frames: int = 5, size: int = 32) -> torch.Tensor:
    return torch.rand(frames, 3, size, size, generator=torch.Generator().manual_seed(seed))


def dpm() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )


def test_wan_latents_are_normalised_per_channel() -> None:
    pipe = tiny_pipe()
    mean, std = [0.1, -0.2, 0.3, 0.0], [2.0, 1.0, 0.5, 3.0]
    vae = AutoencoderKLWan.from_config(
        {**pipe.vae.config, "latents_mean": mean, "latents_std": std}
    )
    vae.load_state_dict(pipe.vae.state_dict())
    clips = [video(0), video(1)]
    plain = encode_clips(pipe, clips, WAN).values
    assert plain.shape == (2, CHANNELS, 2, 4, 4)
    got = encode_clips(SimpleNamespace(vae=vae), clips, WAN).values
    view = (1, -1, 1, 1, 1)
    wanted = (plain - torch.tensor(mean).view(view)) / torch.tensor(std).view(view)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(encode_clips(pipe, clips[:1], WAN).values, plain[:1])


def test_cogvideox_latents_are_scaled_and_frames_come_first() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        scaling_factor=0.5,
    )
    got = encode_clips(SimpleNamespace(vae=vae), [video(0, frames=9)], COGVIDEOX).values
    assert got.shape == (1, 3, 4, 4, 4)
    with torch.no_grad():
        mode = vae.encode((video(0, frames=9) * 2 - 1).transpose(0, 1)[None]).latent_dist.mode()
    torch.testing.assert_close(got, 0.5 * mode.transpose(1, 2))


def test_ltx_latents_are_normalised_from_buffers_and_packed() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
    ).eval()
    vae.latents_mean += 0.5
    pipe = SimpleNamespace(
        vae=vae,
        _pack_latents=LTXPipeline._pack_latents,
        transformer_spatial_patch_size=1,
        transformer_temporal_patch_size=1,
    )
    got = encode_clips(pipe, [video(0, frames=9, size=64)], LTX).values
    with torch.no_grad():
        raw = vae.encode((video(0, 9, 64) * 2 - 1).transpose(0, 1)[None]).latent_dist.mode()
    assert got.shape == (1, 2 * 2 * 2, 8)
    torch.testing.assert_close(got, (raw - 0.5).flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "no clips"),
        ([torch.zeros(5, 32, 32, 3)], r"clip 0 is torch.float32 of shape \(5, 32, 32, 3\)"),
        ([torch.zeros(5, 3, 32, 32, dtype=torch.uint8)], "torch.uint8"),
        ([video(0), video(1, frames=9)], r"clip 1 has shape \(9, 3, 32, 32\), the first"),
        ([video(0) * 255], "values from .* not in 0..1"),
        ([video(0) * torch.nan], "not in 0..1"),
    ],
)
def test_unfit_clips_are_refused(clips: list[torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_clips(tiny_pipe(), clips, WAN)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scheduler", [euler(), unipc(), dpm(), FlowMatchHeunDiscreteScheduler(shift=3.0)]
)
def test_noise_is_mixed_by_the_step_s_own_sigma(scheduler: Any) -> None:
    """Also where the sampler is in the middle of a run, and without moving it."""
    scheduler.set_timesteps(10)
    scheduler.set_begin_index(0)
    clips, pipe = torch.randn(2, 3, 4), SimpleNamespace(scheduler=scheduler)
    noised = NoisedClips(pipe, clips, [7, 8])
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(8))
    x = torch.randn(2, 3, 4)
    for step, t in enumerate(scheduler.timesteps):
        before = {name: copy.copy(value) for name, value in vars(scheduler).items()}
        sigma = scheduler.sigmas[step]
        torch.testing.assert_close(noised.at(step)[1], (1 - sigma) * clips[1] + sigma * noise)
        assert str(before) == str(vars(scheduler))
        x = scheduler.step(0.1 * x, t, x, return_dict=False)[0]


def test_a_diffusion_scheduler_mixes_by_its_own_rule() -> None:
    scheduler = CogVideoXDDIMScheduler()
    scheduler.set_timesteps(10)
    clips = torch.randn(1, 2, 3)
    noised = NoisedClips(SimpleNamespace(scheduler=scheduler), clips, [0])
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))[None]
    t = scheduler.timesteps[4]
    alpha = scheduler.alphas_cumprod[t]
    wanted = alpha.sqrt() * clips + (1 - alpha).sqrt() * noise
    torch.testing.assert_close(noised.at(4), wanted.float())


def call_of(latents: torch.Tensor, timestep: torch.Tensor, channels: int) -> Call:
    arguments = {"hidden_states": latents, "timestep": timestep}
    return Call(WAN, arguments, latents.narrow(1, 0, channels))


def test_only_what_is_sampled_is_replaced() -> None:
    """Image-to-video: channels beyond those that the network predicts hold the image."""
    scheduler = euler()
    scheduler.set_timesteps(4)
    noised = NoisedClips(SimpleNamespace(scheduler=scheduler), torch.randn(2, 4, 2, 3, 3), [0, 1])
    latents = torch.randn(4, 9, 2, 3, 3, dtype=torch.float64)  # two clips in two branches
    got = noised.like(call_of(latents, torch.tensor([900.0] * 4), 4), 1)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got[:2, :4].float(), noised.at(1))
    torch.testing.assert_close(got[2:, :4], got[:2, :4])
    assert torch.equal(got[:, 4:], latents[:, 4:])


def test_clips_that_cannot_stand_in_are_refused() -> None:
    scheduler = euler()
    scheduler.set_timesteps(4)
    noised = NoisedClips(SimpleNamespace(scheduler=scheduler), torch.randn(2, 4, 2, 3, 3), [0, 1])
    with pytest.raises(ValueError, match="give clips of the run's size"):
        noised.like(call_of(torch.randn(2, 4, 2, 3, 4), torch.tensor(900.0), 4), 1)
    with pytest.raises(ValueError, match="give clips of the run's size"):
        noised.like(call_of(torch.randn(3, 4, 2, 3, 3), torch.tensor(900.0), 4), 1)
    per_token = torch.tensor([[0.0, 900.0], [0.0, 900.0]])
    with pytest.raises(ValueError, match="conditioned on frames among its latents"):
        noised.like(call_of(torch.randn(2, 4, 2, 3, 3), per_token, 4), 1)
    noised.like(call_of(torch.randn(2, 4, 2, 3, 3), per_token.clamp_min(900.0), 4), 1)


def measure(pipe: Any, clips: Any, **options: Any) -> SensitivityProfile:
    settings = {"model": "toy", "family": LINEAR, "progress": False} | options
    return calibrate(pipe, ["a cat"], clips=clips, **settings)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_network_sees_the_clips_at_every_step(batch_size: int) -> None:
    seen: list[torch.Tensor] = []

    class Watched(LinearTransformer):
        @functools.wraps(LinearTransformer.forward)
        def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append(hidden_states.clone())
            return super().forward(hidden_states, *args, **kwargs)

    pipe = LinearPipe(Watched(0.7, 1.5), unipc())
    clips = ClipLatents(torch.randn(3, 2, 3, 4))
    profile = measure(pipe, clips, batch_size=batch_size)
    facts = profile.metadata
    assert (facts.inputs, facts.num_clips) == ("clips", 3)
    assert facts.network_evaluations == 3 * 2 * (3 * 10 - 2)
    for point in profile.branches["uncond"]:
        assert point.a_x == pytest.approx(0.7, rel=1e-3)
        assert point.a_t == pytest.approx(1.5, rel=1e-3)
    noised = NoisedClips(pipe, clips.values[:batch_size], range(batch_size))
    known = [noised.at(step) for step in range(10)]
    for latents in seen[: 2 * 28]:  # of the first batch: never anything but the clips
        assert any(torch.equal(latents, wanted) for wanted in known)


def test_videos_are_encoded_and_the_pipeline_s_run_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = tiny_pipe(unipc())
    text = embeddings([5])
    monkeypatch.setattr(pipe, "encode_prompt", lambda **_: (text, text))
    size = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 5}
    options: dict[str, Any] = {"family": None, "call_kwargs": size}
    videos = [video(0), video(1)]
    profile = measure(pipe, videos, **options)
    assert profile == measure(pipe, encode_clips(pipe, videos, WAN), **options)
    assert len(profile.branches["cond"]) == 4
    with pytest.raises(ValueError, match=r"shape \(1, 4, 2, 4, 4\), the run's are \(1, 4, 3"):
        measure(pipe, videos, **options | {"call_kwargs": size | {"num_frames": 9}})


def test_there_is_one_seed_per_clip() -> None:
    pipe = LinearPipe(LinearTransformer(0.7, 1.5), euler())
    with pytest.raises(ValueError, match="2 clips but 3 seeds"):
        measure(pipe, ClipLatents(torch.randn(2, 2, 3, 4)), seeds=range(3))


def test_other_clips_are_another_calibration() -> None:
    journal, clips = Memory(), ClipLatents(torch.randn(2, 2, 3, 4))
    pipe = LinearPipe(LinearTransformer(0.7, 1.5), euler())
    profile = measure(pipe, clips, journal=journal)
    assert measure(pipe, clips, journal=journal) == profile
    with pytest.raises(ProfileError, match="clips '"):
        measure(pipe, dataclasses.replace(clips, values=clips.values + 1), journal=journal)
    with pytest.raises(ProfileError, match="inputs 'clips' but this calibration has 'sampled'"):
        measure(pipe, None, journal=journal, seeds=range(2))
