"""Clips that the engine makes with a cache, and those of a model with two networks."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.calibration.measurement import Measurement
from pipeline.errors import UserError
from sencache import SensitivityProfile
from tests.pipeline.engine.loaded import EngineOf, MakeRequest, paper, psnr

WAN = "wan2.1-t2v-1.3b"
TWO_EXPERTS = "wan2.2-t2v-a14b"


def test_a_cached_clip_counts_its_reuse(
    engine_of: EngineOf, request_for: MakeRequest, profile: SensitivityProfile
) -> None:
    engine, model = engine_of(WAN)
    (cached,) = engine.generate([request_for(model, cache=paper(profile))])
    assert cached.cache["decisions"] == "CRCRC"
    assert cached.cache["nfe"] == 3
    assert cached.cache["reused"] == 2
    assert cached.cache["policy"] == "paper"
    assert cached.cache["profile"] == profile.hash
    assert cached.cache["max_score"] > 0


@pytest.mark.slow
def test_cached_rows_decide_for_themselves(
    engine_of: EngineOf, request_for: MakeRequest, profile: SensitivityProfile
) -> None:
    engine, model = engine_of(WAN)
    batch = [
        request_for(model, prompt, seed, cache=paper(profile, epsilon=0.5))
        for seed, prompt in enumerate(("a dog", "big cat", "x"))
    ]
    together = engine.generate(batch)
    for request, clip in zip(batch, together, strict=True):
        (alone,) = engine.generate([request])
        assert clip.cache["decisions"] == alone.cache["decisions"]
        assert psnr(clip.frames, alone.frames) > 60


def test_two_experts_share_the_steps_of_a_run(
    engine_of: EngineOf, request_for: MakeRequest, profile: SensitivityProfile
) -> None:
    engine, model = engine_of(TWO_EXPERTS)
    (clip,) = engine.generate(
        [request_for(model, num_inference_steps=12, cache=paper(profile, max_reuse=2))]
    )
    decisions = clip.cache["decisions"]
    assert len(decisions) == 12
    assert clip.cache["nfe"] == decisions.count("C")
    assert clip.cache["reused"] == decisions.count("R") > 0


def test_two_experts_have_a_guidance_each(engine_of: EngineOf, request_for: MakeRequest) -> None:
    engine, model = engine_of(TWO_EXPERTS)
    (plain,) = engine.generate([request_for(model)])
    (same,) = engine.generate([request_for(model, guidance_scale_2=3.0)])
    (other,) = engine.generate([request_for(model, guidance_scale_2=9.0)])
    assert np.array_equal(plain.frames, same.frames)  # diffusers takes the first scale for both
    assert not np.array_equal(plain.frames, other.frames)


def test_the_drift_of_two_experts_has_the_guidance_of_each(
    engine_of: EngineOf, request_for: MakeRequest
) -> None:
    """Four steps are at high noise; the latents of the fifth do not know the second scale yet."""
    engine, model = engine_of(TWO_EXPERTS)
    drifts = []
    for second in (3.0, 9.0):
        request = request_for(model, guidance_scale_2=second, records=True)
        (clip,) = engine.generate([request])
        drifts.append(np.array(Measurement.from_json(clip.measurement).drift.distances))
    one, two = drifts
    assert np.array_equal(one[:4, :4], two[:4, :4])
    assert not np.isclose(one[:4, 4], two[:4, 4]).any()


def test_two_experts_where_only_one_runs(engine_of: EngineOf, request_for: MakeRequest) -> None:
    engine, model = engine_of(TWO_EXPERTS)
    (clip,) = engine.generate([request_for(model, num_inference_steps=1)])
    assert clip.cache["decisions"] == "C"


def test_a_failed_call_leaves_no_cache_behind(
    engine_of: EngineOf,
    request_for: MakeRequest,
    profile: SensitivityProfile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, model = engine_of(WAN)
    request = request_for(model, cache=paper(profile))
    (before,) = engine.generate([request])
    with monkeypatch.context() as patch:
        patch.setattr(engine._pipe.vae, "decode", _explode)
        with pytest.raises(ZeroDivisionError):
            engine.generate([request])
    (after,) = engine.generate([request])
    assert np.array_equal(before.frames, after.frames)


def _explode(*args: object, **kwargs: object) -> None:
    raise ZeroDivisionError


def test_a_cache_that_cannot_be_is_a_user_error(
    engine_of: EngineOf, request_for: MakeRequest, profile: SensitivityProfile
) -> None:
    engine, model = engine_of("ltx-video")
    with pytest.raises(UserError):  # the profile is Wan's
        engine.generate([request_for(model, cache=paper(profile))])
