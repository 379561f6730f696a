"""The shipped demo model through the production path: registry, loader, engine."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config.run_config import RunConfig
from pipeline.engine.diffusers_engine import load_engine
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
