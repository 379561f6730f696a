"""Profiles from a run's own clips, on drift that is known."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sencache import ProfileError, SensitivityProfile
from sencache.profiles.metadata import ProfileMetadata
from sencache.profiles.noise_levels import NoiseLevels
from sencache.profiles.own_clips import (
    PRIOR_CLIPS,
    ClipDrift,
    Probe,
    profile_from_clips,
)
from sencache.profiles.prior import prior_profile
from sencache.schedules.drift import Array
from tests.sencache.support.toys import make_profile

STEPS = 12
TAU = tuple(float(f"{t:.6g}") for t in np.linspace(1.0, 0.1, STEPS))
PRIOR = prior_profile("flow")
METADATA = make_profile().metadata


def clip(seed: int, *, scale: float = 1.0, probe: Probe | None = None) -> ClipDrift:
    """A clip whose output follows a bent path of its own."""
    draw = np.random.default_rng(seed)
    times = np.array(TAU)[:, None]
    path = sum(draw.normal(size=(1, 32)) * times**power for power in range(1, 4)) * scale
    return ClipDrift.of_outputs(TAU, TAU, distances_of(path), 1.0 + 0.1 * (seed % 3), 24, probe)


def distances_of(path: Array) -> Array:
    squares: Array = ((path[:, None] - path[None]) ** 2).mean(-1)
    return squares


def drift_of(profile: SensitivityProfile) -> Array:
    assert profile.drift is not None
    return profile.drift.matrix()


def expected() -> Array:
    assert PRIOR.drift is not None
    return PRIOR.drift.at(TAU).matrix()


@given(st.integers(0, 100), st.sampled_from([None, Probe(17, 0.01, 0.03)]))
def test_a_clip_is_read_back_exactly(seed: int, probe: Probe | None) -> None:
    made = clip(seed, probe=probe)
    assert ClipDrift.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "{}", '{"format": "other"}', clip(0).to_json().replace('"tau"', '"time"')],
)
def test_what_is_no_clip_is_refused_by_name(text: str) -> None:
    with pytest.raises(ProfileError, match="clips/3"):
        ClipDrift.from_json(text, origin="clips/3")


def test_a_clip_that_no_run_can_have_is_refused() -> None:
    good = clip(0)
    with pytest.raises(ProfileError, match="rise"):
        dataclasses.replace(good, sigma=TAU[::-1])
    with pytest.raises(ProfileError, match="latents_rms"):
        dataclasses.replace(good, latents_rms=0.0)
    with pytest.raises(ProfileError, match="probe a run that reuses"):
        Probe(50, 0.0, 0.0)


@pytest.mark.slow
@given(st.lists(st.integers(0, 1000), min_size=2, max_size=6, unique=True), st.randoms())
def test_the_order_of_the_clips_does_not_matter(seeds: list[int], order: random.Random) -> None:
    clips = [clip(seed) for seed in seeds]
    shuffled = list(clips)
    order.shuffle(shuffled)
    one, other = (profile_from_clips(each, PRIOR, METADATA) for each in (clips, shuffled))
    assert one == other
    assert SensitivityProfile.from_json(one.to_json()) == one


def test_without_a_prior_the_drift_is_the_mean_of_the_clips() -> None:
    clips = [clip(seed) for seed in range(3)]
    profile = profile_from_clips(clips, PRIOR, METADATA, prior_clips=0.0)
    mean = np.mean([each.distances for each in clips], axis=0)
    np.testing.assert_allclose(drift_of(profile), mean, rtol=1e-5)


def test_a_model_that_drifts_as_the_prior_keeps_the_prior_s_drift_at_its_own_level() -> None:
    level = 3.0
    same = ClipDrift.of_outputs(TAU, TAU, level * expected(), 2.0, 24)
    profile = profile_from_clips([same], PRIOR, METADATA)
    np.testing.assert_allclose(drift_of(profile), level * expected(), rtol=1e-4)
    assert profile.metadata.basis["level"] == pytest.approx(level, rel=1e-3)
    assert PRIOR.drift is not None
    assert profile.drift is not None
    np.testing.assert_allclose(profile.drift.gain, PRIOR.drift.at(TAU).gain, rtol=1e-3)
    # The same error of larger latents is a smaller share of them.
    rms = PRIOR.metadata.latents_rms
    assert rms is not None
    assert profile.error_scale == pytest.approx(PRIOR.error_scale * rms / 2.0, rel=1e-4)


def test_more_clips_count_for_more() -> None:
    clips = [clip(seed) for seed in range(8)]

    def share(count: int) -> float:
        """How much of the way from the prior to the clips' mean the drift has gone."""
        few = clips[:count]
        ends = (
            drift_of(profile_from_clips(few, PRIOR, METADATA, prior_clips=weight))
            for weight in (1e12, 0.0)
        )
        prior, own = ends
        blend = drift_of(profile_from_clips(few, PRIOR, METADATA))
        return float(((blend - prior) * (own - prior)).sum() / ((own - prior) ** 2).sum())

    for count in (1, 2, 8):
        assert share(count) == pytest.approx(count / (count + PRIOR_CLIPS), rel=1e-3)


@given(st.integers(0, 100), st.floats(0.2, 5.0))
def test_sensitivities_follow_the_drift_of_each_step(seed: int, scale: float) -> None:
    profile = profile_from_clips([clip(seed, scale=scale)], PRIOR, METADATA)
    own, usual = np.array(clip(seed, scale=scale).distances), expected()
    known = PRIOR.branches["cond"]
    taus = [-point.tau for point in known]
    for step, (point, after) in enumerate(itertools.pairwise(profile.branches["cond"])):
        assert (point.tau, after.tau) == TAU[step : step + 2]
        ratio = np.clip(np.sqrt(own[step, step + 1] / usual[step, step + 1]), 1 / 16, 16)
        before = np.interp(-point.tau, taus, [each.a_x for each in known])
        assert point.a_x == pytest.approx(before * ratio, rel=1e-4)
        before = np.interp(-point.tau, taus, [each.a_t for each in known])
        assert point.a_t == pytest.approx(before * ratio, rel=1e-4)


def test_probes_correct_the_scale_of_the_error_and_nothing_else() -> None:
    plain = profile_from_clips([clip(0), clip(1)], PRIOR, METADATA)
    # Promises grow with the power 1.2 of the prediction: the scale is off by that root of 4.
    probes = [Probe(17, 0.01, 0.02), Probe(13, 0.01, 0.08)]
    clips = [clip(seed, probe=probe) for seed, probe in enumerate(probes)]
    probed = profile_from_clips(clips, PRIOR, METADATA)
    assert probed.error_scale == pytest.approx(4.0 ** (1 / 1.2) * plain.error_scale, rel=1e-4)
    assert (probed.drift, probed.branches) == (plain.drift, plain.branches)
    assert probed.hash != plain.hash


def test_the_prior_is_read_at_the_noise_of_the_clips() -> None:
    """A model that counts time otherwise gets the same drift for the same share of noise."""
    squared = tuple(t**2 for t in TAU)
    flow = clip(0)
    other = ClipDrift.of_outputs(squared, TAU, np.array(flow.distances), flow.latents_rms, 24)
    here, there = (profile_from_clips([each], PRIOR, METADATA) for each in (flow, other))
    np.testing.assert_allclose(drift_of(here), drift_of(there), rtol=1e-4)
    assert there.drift is not None
    assert there.drift.tau == pytest.approx(squared, rel=1e-5)
    assert NoiseLevels.of_steps(squared, TAU).sigma_at(squared) == pytest.approx(TAU)


def test_metadata_say_where_it_comes_from() -> None:
    made = profile_from_clips([clip(0), clip(1)], PRIOR, METADATA)
    facts: ProfileMetadata = made.metadata
    assert (facts.inputs, facts.num_clips, facts.network_evaluations) == ("run", 2, 48)
    assert facts.basis["prior_hash"] == PRIOR.hash
    assert json.loads(made.to_json())["metadata"]["basis"]["prior"] == PRIOR.metadata.model


def test_clips_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ProfileError, match="one clip or more"):
        profile_from_clips([], PRIOR, METADATA)
    tau = tuple(t * 0.9 for t in TAU)
    shifted = dataclasses.replace(clip(1), tau=tau, sigma=tau)
    with pytest.raises(ProfileError, match="same steps"):
        profile_from_clips([clip(0), shifted], PRIOR, METADATA)
    with pytest.raises(ProfileError, match="no drift"):
        profile_from_clips([clip(0)], make_profile(), METADATA)
