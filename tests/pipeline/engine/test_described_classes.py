"""Classes that only their signatures describe, by the folder alone, through the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.engine.diffusers_engine import DiffusersEngine, load_engine
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from sencache import SenCacheConfig
from sencache.measuring import prior_profile

STEPS = 6
QUICK = {"HunyuanVideo15Pipeline", "SanaVideoPipeline"}
FRAMES = {
    "HunyuanVideo15Pipeline": 9,
    "SanaVideoPipeline": 9,
    "Kandinsky5T2VPipeline": 9,
    "Kandinsky6TI2VAPipeline (silent)": 9,
    "LattePipeline": 2,
    "AllegroPipeline": 8,
    "HeliosPipeline": 33,
}

MakeRequest = Callable[..., SampleRequest]


def loaded(name: str, folder: Path) -> tuple[ResolvedModel, DiffusersEngine]:
    """The tiny pipeline of a class, saved, and then found and loaded by its folder."""
    from tests.whole_pipelines import whole

    whole(name).save_pretrained(folder, safe_serialization=True)
    model = resolve_model("", str(folder))
    prior = prior_profile(model.spec.pipeline.prediction)
    return model, load_engine(model, device="cpu", profile_json=prior.to_json())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=() if each in QUICK else (pytest.mark.slow,))
        for each in sorted(FRAMES)
    ],
)
def test_a_clip_is_made_by_the_folder_alone(
    name: str, tmp_path: Path, request_for: MakeRequest
) -> None:
    model, engine = loaded(name, tmp_path / "model")
    assert "is not in the registry" in model.notes[0]
    prior = prior_profile(model.spec.pipeline.prediction)
    planned = CacheIdentity.of(SenCacheConfig(policy="planned", budget=0.5), prior)
    exact = CacheIdentity.of(SenCacheConfig(epsilon=0.0), prior)

    def clip(cache: CacheIdentity, **changes: Any) -> Any:
        size = {"num_frames": FRAMES[name], "num_inference_steps": STEPS}
        (made,) = engine.generate([request_for(model, seed=1, cache=cache, **(size | changes))])
        return made

    plain, same, half = clip(CacheIdentity()), clip(exact), clip(planned)
    assert plain.frames.shape == (FRAMES[name], 64, 64, 3)
    assert np.array_equal(plain.frames, same.frames)
    chunks = len(plain.cache["decisions"]) // STEPS
    assert half.cache["nfe"] == chunks * STEPS // 2
    unguided = clip(CacheIdentity(), guidance_scale=1.0)
    # The scale reaches the model. A tiny decoder may give grey, so latents count where they show.
    seen, other = (
        each.frames if each.latents is None else each.latents for each in (plain, unguided)
    )
    assert not np.array_equal(seen, other)
    assert np.array_equal(plain.frames, clip(CacheIdentity()).frames)
