"""Sections about whole engine calls: the embedded model against its CPU clips, and a true size."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from safetensors.torch import save

from jobs.benchmarks.gpu.loops import MODEL, PROFILE, TINY, loop_of
from jobs.benchmarks.gpu.sections import MeasuredDevice
from pipeline.engine.diffusers_engine import DiffusersEngine, load_engine
from pipeline.engine.protocol import Clip
from pipeline.models.registry import get_model
from pipeline.models.resolve import resolve_model
from pipeline.models.samplers import sampler_name
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.requests.sample_request import CacheIdentity, SampleRequest, canonical_json
from sencache import SensitivityProfile

PROMPTS = ("a red circle moving left", "a blue square", "a green triangle", "a yellow star")


def parity(bench: MeasuredDevice) -> dict[str, Any]:
    """Decisions and frames of the embedded model: the CPU in float32 against the device."""
    model = resolve_model("demo")
    profile = PROFILE.read_text()
    wanted: dict[str, list[Clip]] = {}
    made: dict[str, Any] = {}
    for name, device, dtype in (
        ("cpu float32", "cpu", "float32"),
        ("device float32", str(bench.device), "float32"),
        ("device bfloat16", str(bench.device), "bfloat16"),
    ):
        held = load_engine(model, device=device, dtype=dtype, profile_json=profile)
        for policy, cache in _policies(SensitivityProfile.from_json(profile)).items():
            requests = _requests(model, cache, 16 if bench.tiny else 50)
            if bench.tiny:
                requests = requests[:1]
            seconds, clips = bench.timed(functools.partial(held.generate, requests))
            made[f"{name} {policy}"] = _compared(wanted.setdefault(policy, clips), clips) | {
                "s": round(seconds, 2)
            }
        held.close()
    return made


def engine(bench: MeasuredDevice) -> dict[str, Any]:
    """An engine call at true size: encoded texts, four steps, decode, pixels, copy."""
    loop, profile = loop_of(bench, 1, 4)
    spec = get_model(MODEL)
    settings = {"base_dim": 8} if bench.tiny else {}
    with torch.device(bench.device):
        vae = diffusers.AutoencoderKLWan(**settings).eval().requires_grad_(False)
    vae.enable_slicing()
    pipe = diffusers.WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        transformer=loop.networks[0],
        scheduler=loop.pipe.scheduler,
    )
    pipe.set_progress_bar_config(disable=True)
    held = DiffusersEngine(ResolvedModel(spec, "", ""), pipe, profile=profile)
    plan = canonical_json({"budget": 0.5, "order": 1, "repair": True})
    request = _of_size(spec, bench, CacheIdentity("planned", plan, profile.hash))
    made: dict[str, Any] = {}
    for rows in (1, 2):
        batch = [dataclasses.replace(request, seed=seed) for seed in range(rows)]
        figures, clips = bench.peaked(functools.partial(held.generate, batch))
        made[f"batch {rows}"] = figures | {
            "decode_s": round(clips[0].decode_s, 3),
            "decisions": clips[0].cache["decisions"],
            "shape": list(clips[0].frames.shape),
        }
    return made


def _policies(profile: SensitivityProfile) -> dict[str, CacheIdentity]:
    """Identities of the policies by their names."""
    paper = {"epsilon": 0.4, "max_reuse": 3, "correct": True}
    plan: dict[str, Any] = {"order": 1, "repair": True}
    gate = {"budget": 0.5, "gate": 2, "gate_ratio": 0.25}
    return {
        "none": CacheIdentity(),
        "paper": CacheIdentity("paper", canonical_json(paper), profile.hash),
        "planned": CacheIdentity("planned", canonical_json(plan | {"budget": 0.34}), profile.hash),
        "gated": CacheIdentity("planned", canonical_json(plan | gate), profile.hash),
    }


def _requests(model: ResolvedModel, cache: CacheIdentity, steps: int) -> list[SampleRequest]:
    own = model.spec.defaults
    request = SampleRequest(
        prompt="",
        negative_prompt="",
        model=model.spec.name,
        model_revision=model.revision,
        sampler=sampler_name(own.sampler, own.flow_shift),
        num_inference_steps=steps,
        guidance_scale=own.guidance_scale,
        width=own.width,
        height=own.height,
        num_frames=own.num_frames,
        fps=own.fps,
        max_sequence_length=own.max_sequence_length,
        seed=0,
        cache=cache,
    )
    return [
        dataclasses.replace(request, prompt=prompt, seed=seed)
        for seed, prompt in enumerate(PROMPTS)
    ]


def _of_size(spec: ModelSpec, bench: MeasuredDevice, cache: CacheIdentity) -> SampleRequest:
    """A request with encoded texts: random ones, which cost what others cost."""
    own = spec.defaults
    size = TINY if bench.tiny else {}
    kind = torch.bfloat16 if bench.on_gpu else torch.float32
    embedded = {
        name: torch.randn(own.max_sequence_length, 4096, dtype=kind)
        for name in ("prompt_embeds", "negative_prompt_embeds")
    }
    embedded["prompt_tokens"] = torch.tensor(-1)
    return SampleRequest(
        prompt="x",
        negative_prompt="",
        model=spec.name,
        model_revision="",
        sampler=sampler_name(own.sampler, own.flow_shift),
        num_inference_steps=4,
        guidance_scale=own.guidance_scale,
        width=size.get("width", own.width),
        height=size.get("height", own.height),
        num_frames=size.get("num_frames", own.num_frames),
        fps=own.fps,
        max_sequence_length=own.max_sequence_length,
        seed=0,
        cache=cache,
        texts=b"T" + save(embedded),
    )


def _compared(wanted: Sequence[Clip], clips: Sequence[Clip]) -> dict[str, Any]:
    """Clips with the decisions that they should have, and the lowest PSNR in dB."""
    pairs = list(zip(wanted, clips, strict=True))
    errors = [
        float(np.mean((one.frames.astype(float) - other.frames) ** 2)) for one, other in pairs
    ]
    lowest = 99.0 if max(errors) == 0 else float(10 * np.log10(255**2 / max(errors)))
    return {
        "equal_decisions": sum(
            one.cache["decisions"] == other.cache["decisions"] for one, other in pairs
        ),
        "clips": len(clips),
        "lowest_psnr_db": round(min(99.0, lowest), 1),
    }
