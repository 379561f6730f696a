"""A sensitivity profile for tests of settings; made without torch models."""

from __future__ import annotations

import pytest

from sencache import ProfileMetadata, SensitivityPoint, SensitivityProfile


@pytest.fixture(scope="session")
def profile() -> SensitivityProfile:
    """A profile of some Wan whose every step is equally sensitive."""
    metadata = ProfileMetadata(
        model="wan2.1-t2v-1.3b",
        revision="",
        family="wan",
        sampler="UniPCMultistepScheduler",
        shift=8.0,
        num_train_timesteps=1000,
        num_inference_steps=5,
        guidance_scale=3.0,
        height=64,
        width=64,
        num_frames=9,
        dtype="float32",
        num_clips=1,
        network_evaluations=1,
    )
    points = tuple(SensitivityPoint(tau, 1.0, 0.0, 1.0, 0.0) for tau in (1.0, 0.5, 0.0))
    return SensitivityProfile(metadata, {"cond": points, "uncond": points})
