"""Profiles of registered models, and where a calibration keeps what is finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.calibration.measure import StoredJournal, measure_profile, profile_table
from pipeline.config.run_config import RunConfig
from pipeline.models.call import sampling_arguments
from pipeline.models.load import load_pipeline
from pipeline.models.registry import MODELS
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.requests.defaults import request_defaults
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from sencache import ProfileError, SensitivityProfile, apply_sencache
from sencache.config import SenCacheConfig
from sencache.profiles.metadata import architecture_of
from tests.model_fixtures import one_quick

WAN, TWO_EXPERTS, DISTILLED = "wan2.1-t2v-1.3b", "wan2.2-t2v-a14b", "hunyuanvideo"


def measure(
    model: ResolvedModel, request: SampleRequest, clips: int = 2, **options: Any
) -> SensitivityProfile:
    pipe = load_pipeline(model, "cpu")
    return measure_profile(model, pipe, request, ["a dog", "a cat"], clips, **options)


def videos(request: SampleRequest, count: int) -> list[torch.Tensor]:
    shape = (request.num_frames, 3, request.height, request.width)
    return [
        torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(count)
    ]


def test_a_profile_says_what_it_was_measured_on(
    tiny_resolved: Callable[[str], ResolvedModel], request_for: Callable[..., SampleRequest]
) -> None:
    model = tiny_resolved(WAN)
    profile = measure(model, request_for(model))
    facts = profile.metadata
    assert (facts.model, facts.revision, facts.family) == (WAN, model.revision, "wan")
    assert (facts.sampler, facts.shift) == ("UniPCMultistepScheduler", 8.0)
    assert (facts.num_inference_steps, facts.num_clips) == (5, 2)
    assert (facts.width, facts.height, facts.num_frames) == (64, 64, 9)
    assert facts.architecture == architecture_of(load_pipeline(model, "cpu").transformer)
    assert set(profile.branches) == {"cond", "uncond"}
    # Three evaluations a step and branch, one at the last step.
    assert facts.network_evaluations == 2 * 2 * (3 * 4 + 1)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    "name",
    one_quick(
        name
        for name, spec in MODELS.items()
        if name not in ("demo", TWO_EXPERTS, "wan2.1-t2v-14b") and not spec.conditions
    ),
)
def test_every_family_can_be_calibrated(
    tiny_resolved: Callable[[str], ResolvedModel],
    request_for: Callable[..., SampleRequest],
    name: str,
    given: bool,
) -> None:
    model = tiny_resolved(name)
    request = request_for(model, guidance_scale=3.0, num_inference_steps=4)
    clips = videos(request, 2) if given else None
    profile = measure(model, request, videos=clips)
    distilled = name == DISTILLED
    assert set(profile.branches) == ({"cond"} if distilled else {"cond", "uncond"})
    assert all(len(points) == 3 for points in profile.branches.values())
    assert profile.metadata.inputs == ("clips" if given else "sampled")
    assert profile.metadata.network_evaluations == 2 * (1 if distilled else 2) * (3 * 3 + 1)
    pipe = load_pipeline(model, "cpu")
    apply_sencache(pipe.transformer, SenCacheConfig(epsilon=0.1), profile)


@pytest.mark.parametrize("given", [False, True])
def test_two_experts_make_one_profile_over_the_whole_range(
    tiny_resolved: Callable[[str], ResolvedModel],
    request_for: Callable[..., SampleRequest],
    given: bool,
) -> None:
    model = tiny_resolved(TWO_EXPERTS)
    request = request_for(model, num_inference_steps=20)
    profile = measure(model, request, clips=1, videos=videos(request, 1) if given else None)
    taus = [point.tau for point in profile.branches["cond"]]
    assert taus == sorted(taus, reverse=True)
    assert taus[0] > 0.875 > taus[-1]  # both sides of the boundary
    assert len(taus) == 18  # the last step of each expert has no next one of its own
    assert profile.metadata.network_evaluations == 2 * (3 * 18 + 2)


def test_a_journal_in_a_storage_is_taken_up(
    tiny_resolved: Callable[[str], ResolvedModel],
    request_for: Callable[..., SampleRequest],
    tmp_path: Path,
) -> None:
    model = tiny_resolved(WAN)
    request = request_for(model)
    journal = StoredJournal(Storage(str(tmp_path)), "profile.json.partial")
    assert journal.load() == ""
    whole = measure(model, request, journal=journal)
    lines = journal.load().splitlines(keepends=True)
    assert len(lines) == 3
    journal.save("".join(lines[:2]))
    assert measure(model, request, journal=journal) == whole
    assert journal.load().splitlines(keepends=True) == lines
    with pytest.raises(ProfileError, match=r"profile\.json\.partial: journal was begun with guid"):
        measure(model, request_for(model, guidance_scale=2.0), journal=journal)
    journal.delete()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_given_clips_give_about_the_sensitivities_of_the_sampled_ones() -> None:
    """The demonstration model on its own clips: a straight path to a clip is close to its own."""
    model = resolve_model("demo", "")
    pipe = load_pipeline(model, "cpu")
    config = RunConfig.model_validate({"prompts": "-", "output": "-", "cache": {"policy": "none"}})
    template = dataclasses.replace(request_defaults(config, model).template, num_inference_steps=12)
    captions = [
        "a red square moving left quickly on a gray background",
        "a green circle moving up slowly on a black background",
    ]
    sampled = measure_profile(model, pipe, template, captions, 2)
    made = pipe(
        prompt=captions,
        negative_prompt=["", ""],
        generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
        output_type="pt",
        **sampling_arguments(model.spec, template),
    ).frames
    given = measure_profile(model, pipe, template, captions, 2, videos=list(made.clamp(0, 1)))
    for branch in ("cond", "uncond"):
        pairs = list(zip(sampled.branches[branch], given.branches[branch], strict=True))
        for name in ("a_x", "a_t"):
            values = [(getattr(a, name), getattr(b, name)) for a, b in pairs]
            gaps = [abs(a - b) / ((a + b) / 2) for a, b in values]
            # Near the noise guidance bends the path of a genuine run.
            late = [gap for gap, (a, _) in zip(gaps, pairs, strict=True) if a.tau < 0.7]
            assert max(late) < 0.15, (branch, name)
            assert sum(gaps) / len(gaps) < 0.25, (branch, name)


def test_the_table_shows_every_point_and_the_cost(profile: SensitivityProfile) -> None:
    table = profile_table(profile)
    assert table.count("\ncond ") == len(profile.branches["cond"])
    assert "1 sampled clip, 1 network evaluations" in table
    assert profile.hash in table
