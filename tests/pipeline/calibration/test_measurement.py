"""A run's own profile depends on what its first clips measured, and on nothing else."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from pipeline.calibration.measurement import (
    FirstClips,
    Measurement,
    chosen_before,
    measurement_key,
    own_profile,
    profile_key,
)
from pipeline.requests.controls import control_for
from pipeline.requests.packing import recorded_twin
from pipeline.requests.sample_request import UNMEASURED, CacheIdentity, SampleRequest
from pipeline.storage.storage import Storage
from sencache.profiles.metadata import ProfileMetadata
from sencache.profiles.own_clips import ClipDrift, profile_from_clips
from sencache.profiles.prior import prior_profile

WAITING = CacheIdentity("planned", '{"max_error":0.02}', UNMEASURED)
SAMPLE = SampleRequest("p", "", "demo", "rev", "S/3", 6, 4.0, 32, 16, 5, 8, 32, 0, WAITING)
METADATA = ProfileMetadata(
    "demo", "rev", "wan", "S", 3.0, 1000, 6, 4.0, 16, 32, 5, "float32", 1, 12, inputs="run"
)
STEPS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1)


def samples(count: int) -> list[SampleRequest]:
    return [dataclasses.replace(SAMPLE, seed=seed) for seed in range(count)]


def measured(seed: int) -> Measurement:
    outputs = np.random.default_rng(seed).normal(size=(6, 50)).cumsum(0)
    distances = np.square(outputs[:, None] - outputs[None]).mean(-1)
    drift = ClipDrift.of_outputs(STEPS, STEPS, distances, latents_rms=1.0, evaluations=12)
    return Measurement(METADATA, "flow", drift)


def first_clips(storage: Storage, count: int = 4) -> FirstClips:
    made = [recorded_twin(each) for each in samples(count)]
    return FirstClips(storage, tuple(sorted(made, key=lambda each: each.sample_id)), "flow")


def measure(first: FirstClips, request: SampleRequest) -> None:
    text = measured(request.seed).to_json()
    first.storage.put_bytes(measurement_key(request), text.encode())


def expected_hash() -> str:
    """The hash of the profile of clips 0 to 3, put together by hand."""
    drifts = [measured(seed).drift for seed in range(4)]
    return profile_from_clips(drifts, prior_profile("flow"), METADATA).hash


@pytest.mark.parametrize("order", range(3))
def test_the_profile_is_one_whatever_the_order_of_its_clips(storage: Storage, order: int) -> None:
    first = first_clips(storage)
    shuffled = list(first.requests)
    random.Random(order).shuffle(shuffled)
    for request in shuffled:
        assert first.complete() is None
        measure(first, request)
    own = first.complete()
    assert own is not None
    assert own.profile.hash == expected_hash() != prior_profile("flow").hash
    assert (own.profile.metadata.num_clips, own.requests) == (4, first.requests)
    again = own_profile(storage, SAMPLE)
    assert again is not None
    assert again.profile.hash == own.profile.hash
    assert first.complete() == again


def test_a_clip_that_failed_is_left_out_and_named(storage: Storage) -> None:
    first = first_clips(storage, 3)
    failed, *others = first.requests
    first.fail(failed, "ValueError: a pink blob")
    for request in others:
        measure(first, request)
    own = first.complete()
    assert own is not None
    assert own.requests == tuple(others)
    assert own.failed == (f"{failed.sample_id}: ValueError: a pink blob",)
    first.fail(others[0], "too late")
    assert own_profile(storage, SAMPLE) == own


def test_without_any_measurement_the_prior_is_the_profile(storage: Storage) -> None:
    first = first_clips(storage, 2)
    first.fail(first.requests[0], "no")
    assert first.complete() is None
    own = first.complete(give_up=True)
    assert own is not None
    assert own.profile.hash == prior_profile("flow").hash
    assert len(own.failed) == 2
    assert first.complete() == own


def test_requests_get_the_profile_and_controls_follow_their_sample(storage: Storage) -> None:
    first = first_clips(storage, 2)
    for request in first.requests:
        measure(first, request)
    own = first.complete()
    assert own is not None
    sample, control = own.settle([SAMPLE, control_for(SAMPLE)])
    assert sample.cache == dataclasses.replace(WAITING, profile=own.profile.hash)
    assert control == control_for(sample)
    assert control.sample_id != control_for(SAMPLE).sample_id
    assert sample.profile_text == own.profile.to_json()
    # What was settled before and lost the text on its way gets it again.
    bare = dataclasses.replace(sample, profile_text="")
    assert own.settle([bare])[0].profile_text == own.profile.to_json()
    # A control alone, whose sample an earlier run made, has that sample made again.
    (alone,) = own.settle([control_for(bare)])
    assert (alone, alone.profile_text) == (control, sample.profile_text)
    uncached = dataclasses.replace(SAMPLE, cache=CacheIdentity())
    assert own.settle([uncached]) == [uncached]


def test_the_key_holds_what_the_drift_depends_on() -> None:
    key = profile_key(SAMPLE)
    for same in (
        {"prompt": "q"},
        {"seed": 3},
        {"negative_prompt": "n"},
        {"cache": CacheIdentity()},
    ):
        assert profile_key(dataclasses.replace(SAMPLE, **same)) == key
    for other in ({"num_inference_steps": 7}, {"adapters": ("a@1",)}, {"dtype": "float16"}):
        assert profile_key(dataclasses.replace(SAMPLE, **other)) != key


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", None])
def test_lost_or_damaged_files_are_made_anew_from_what_was_measured(
    storage: Storage, damage: bytes | None
) -> None:
    first = first_clips(storage, 3)
    first.keep_choice()
    for request in first.requests:
        measure(first, request)
    own = first.complete()
    assert own is not None
    index = f"profiles/own/{profile_key(SAMPLE)}.json"
    for key in (index, f"profiles/{own.profile.hash}.json"):
        if damage is None:
            storage.delete(key)
        else:
            storage.put_bytes(key, damage)
        assert own_profile(storage, SAMPLE) is None
        assert chosen_before(storage, SAMPLE) == first.requests
        assert first.complete() == own
        assert own_profile(storage, SAMPLE) == own


def test_a_damaged_choice_is_no_choice(storage: Storage) -> None:
    assert chosen_before(storage, SAMPLE) == ()
    for damage in (b"", b'{"clips": 3}', b'{"clips": ["x"]}'):
        storage.put_bytes(f"profiles/own/{profile_key(SAMPLE)}/chosen.json", damage)
        assert chosen_before(storage, SAMPLE) == ()
