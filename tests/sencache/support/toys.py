"""Small networks and pipelines with the interfaces of diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from sencache.families.base import Family
from sencache.profiles.metadata import Branch, ProfileMetadata, SensitivityPoint
from sencache.profiles.profile import SensitivityProfile

CHANNELS, TEXT_TOKENS, TEXT_DIM = 4, 6, 16


def euler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def unipc() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=3.0,
        num_train_timesteps=1000,
    )


def tiny_wan(seed: int = 0) -> WanTransformer3DModel:
    """A random Wan transformer of two small blocks."""
    torch.manual_seed(seed)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    ).eval()


def tiny_pipe(scheduler: Any = None, seed: int = 0) -> WanPipeline:
    """A random WanPipeline; prompts go in as embeddings, so it needs no text encoder."""
    torch.manual_seed(seed + 1)
    vae = AutoencoderKLWan(
        base_dim=3,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
    )
    pipe = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=scheduler or euler(),
        transformer=tiny_wan(seed),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def embeddings(seeds: Sequence[int]) -> torch.Tensor:
    """Random prompt embeddings, one per seed, of different strength so that rows differ."""
    return torch.cat(
        [
            (1 + seed % 3)
            * torch.randn(1, TEXT_TOKENS, TEXT_DIM, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
    )


def sample(
    pipe: WanPipeline, seeds: Sequence[int], steps: int = 12, **options: Any
) -> torch.Tensor:
    """Latents of one pipeline call, one row per seed."""
    options = {
        "prompt_embeds": embeddings(seeds),
        "negative_prompt_embeds": embeddings([99]).expand(len(seeds), -1, -1).contiguous(),
        "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
        "height": 32,
        "width": 32,
        "num_frames": 5,
        "num_inference_steps": steps,
        "guidance_scale": 4.0,
        "output_type": "latent",
    } | options
    latents: torch.Tensor = pipe(**options).frames
    return latents


class CountRows:
    """Counts the rows that really go through a submodule."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.rows: list[int] = []
        self._handle = module.register_forward_pre_hook(
            lambda _module, args: self.rows.append(args[0].shape[0])
        )

    def remove(self) -> None:
        self._handle.remove()


def make_profile(
    a_x: float | Sequence[float] = 1.0,
    a_t: float | Sequence[float] = 1.0,
    *,
    branches: Sequence[Branch] = ("cond", "uncond"),
    family: str = "wan",
    **metadata: Any,
) -> SensitivityProfile:
    """A profile with given values at tau evenly from 1 to 0."""
    a_x = [a_x, a_x] if isinstance(a_x, (int, float)) else list(a_x)
    a_t = [a_t] * len(a_x) if isinstance(a_t, (int, float)) else list(a_t)
    points = tuple(
        SensitivityPoint(1 - i / (len(a_x) - 1), float(a_x[i]), 0.0, float(a_t[i]), 0.0)
        for i in range(len(a_x))
    )
    known = {
        "model": "tiny",
        "revision": "1",
        "family": family,
        "sampler": "FlowMatchEulerDiscreteScheduler",
        "shift": 3.0,
        "num_train_timesteps": 1000,
        "num_inference_steps": 12,
        "guidance_scale": 4.0,
        "height": 32,
        "width": 32,
        "num_frames": 5,
        "dtype": "float32",
        "num_clips": 1,
        "network_evaluations": 0,
    }
    return SensitivityProfile(
        ProfileMetadata(**(known | metadata)), dict.fromkeys(branches, points)
    )


class LinearTransformer(torch.nn.Module, CacheMixin):
    """f(x, t) = gain_x * x + gain_t * tau + text: sensitivities are known exactly."""

    def __init__(self, gain_x: float, gain_t: float) -> None:
        super().__init__()
        self.gain_x, self.gain_t = gain_x, gain_t
        self.config = SimpleNamespace(out_channels=2)
        self.calls: list[int] = []

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        shared_scale: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        self.calls.append(len(hidden_states))
        shape = (-1,) + (1,) * (hidden_states.ndim - 1)
        moving = hidden_states[:, :2]
        output = (
            self.gain_x * moving
            + self.gain_t * (timestep / 1000).view(shape)
            + encoder_hidden_states.view(shape)
        )
        if shared_scale is not None:
            output = output * shared_scale[0]
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)


LINEAR = Family(
    name="linear",
    classes=("LinearTransformer",),
    contexts={"cond": ("cond",), "uncond": ("uncond",), "cond_uncond": ("uncond", "cond")},
    per_row=("hidden_states", "timestep", "encoder_hidden_states"),
)


class LinearPipe:
    """A sampling loop round a LinearTransformer with a real scheduler and two-call guidance."""

    def __init__(self, transformer: LinearTransformer, scheduler: Any) -> None:
        self.transformer, self.scheduler = transformer, scheduler

    @torch.no_grad()
    def __call__(
        self,
        prompt: list[str],
        generator: list[torch.Generator],
        num_inference_steps: int = 10,
        guidance_scale: float = 4.0,
        output_type: str = "latent",
    ) -> torch.Tensor:
        self.scheduler.set_timesteps(num_inference_steps)
        self.scheduler.set_begin_index(0)
        x = torch.cat([torch.randn(1, 2, 3, 4, generator=g) for g in generator])
        text = torch.tensor([float(len(caption)) for caption in prompt])
        for i, t in enumerate(self.scheduler.timesteps):
            outputs = {}
            for name, condition in (("cond", text), ("uncond", 0 * text)):
                with self.transformer.cache_context(
                    name, step_index=i, num_inference_steps=num_inference_steps
                ):
                    outputs[name] = self.transformer(
                        x, t.expand(len(x)), condition, return_dict=False
                    )[0]
            guided = outputs["uncond"] + guidance_scale * (outputs["cond"] - outputs["uncond"])
            x = self.scheduler.step(guided, t, x, return_dict=False)[0]
        self.transformer._reset_stateful_cache()
        return x
