"""The shipped demo model through the production path: registry, loader, engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open

from jobs.benchmarks.quality.accuracy import judge_clips
from jobs.benchmarks.quality.splits import HELD_OUT, demo_captions
from pipeline.config.run_config import RunConfig
from pipeline.engine.diffusers_engine import load_engine
from pipeline.engine.factory import engine_factory
from pipeline.models.adapters import SHIPPED, resolve_adapters
from pipeline.models.recipes import get_recipe
from pipeline.models.registry import shipped_folder
from pipeline.models.resolve import resolve_model
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request

PROMPTS = ("a red circle moving right slowly on a black background", "The Eiffel tower 🎬, 8k")


@pytest.mark.slow
def test_a_clip_of_the_demo_does_not_depend_on_its_batch() -> None:
    config = RunConfig.model_validate(
        {
            "prompts": "p.txt",
            "output": "out",
            "cache": {"policy": "none"},
            "sampling": {"num_inference_steps": 8},
        }
    )
    model = resolve_model(config.model)
    defaults = request_defaults(config, model)
    requests = [build_request({"prompt": text}, defaults, "p.txt:0") for text in PROMPTS]
    engine = load_engine(model, device="cpu", threads=1)
    together = engine.generate(requests)
    (alone,) = engine.generate(requests[:1])
    error = np.mean((together[0].frames.astype(float) - alone.frames.astype(float)) ** 2)
    assert error < 255**2 / 10**6  # PSNR over 60 dB
    assert alone.frames.shape == (17, 64, 64, 3)
    red, green, _ = alone.frames.reshape(-1, 3).max(axis=0)
    assert red > 150 > green  # a red thing on black, whatever its shape after so few steps
    engine.close()


def test_the_shipped_adapter_is_small_and_finite() -> None:
    (uri,) = get_recipe("demo", "distilled-4step").adapters
    path = shipped_folder(resolve_model("demo").spec) / uri.removeprefix(f"{SHIPPED}demo/")
    assert path.stat().st_size <= 5_000_000
    with safe_open(path, framework="pt") as tensors:
        assert all(bool(tensors.get_tensor(key).isfinite().all()) for key in tensors.keys())  # noqa: SIM118
    assert resolve_adapters([uri])[0].weight == 1.0


@pytest.mark.slow
def test_four_steps_of_the_recipe_show_their_captions_where_four_plain_ones_do_not() -> None:
    captions = demo_captions(HELD_OUT)[-8:]
    model = resolve_model("demo")
    right = {}
    for name, settings in {
        "recipe": {"recipe": "distilled-4step"},
        "plain": {"cache": {"policy": "none"}, "sampling": {"num_inference_steps": 4}},
    }.items():
        config = RunConfig.model_validate({"prompts": "p.txt", "output": "out", **settings})
        defaults = request_defaults(config, model)
        requests = [
            build_request({"prompt": caption, "seed": seed}, defaults, "p.txt:0")
            for seed, caption in enumerate(captions)
        ]
        engine = engine_factory(config, model, threads=1)()
        clips = engine.generate(requests)
        engine.close()
        assert {clip.cache["nfe"] for clip in clips} == {4}
        frames = [torch.from_numpy(clip.frames).permute(0, 3, 1, 2) / 255 for clip in clips]
        right[name] = sum(match.right for match in judge_clips(model, captions, frames) or ())
    assert right["recipe"] >= 7
    assert right["plain"] < right["recipe"]
