from __future__ import annotations

import pickle

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sencache.profiles.interpolation import SensitivityCurve
from tests.sencache.support.toys import make_profile


@given(
    knots=st.lists(st.integers(0, 1000), min_size=2, max_size=12, unique=True),
    tau=st.lists(st.floats(-0.5, 1.5, width=32), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
)
def test_matches_numpy_with_clamped_ends(knots: list[int], tau: list[float], seed: int) -> None:
    places = np.array(sorted(knots), np.float32) / 1000
    values = np.random.default_rng(seed).uniform(0, 10, (2, len(places))).astype(np.float32)
    curve = SensitivityCurve(torch.from_numpy(places), torch.from_numpy(values))
    a_x, a_t = curve(torch.tensor(tau))
    for got, row in ((a_x, values[0]), (a_t, values[1])):
        np.testing.assert_allclose(got.numpy(), np.interp(tau, places, row), rtol=1e-4, atol=1e-4)


def test_nan_stays_nan() -> None:
    a_x, a_t = make_profile().curve("cond")(torch.tensor([torch.nan, 0.5]))
    assert a_x.isnan().tolist() == a_t.isnan().tolist() == [True, False]


def test_a_profile_keeps_its_curve_from_run_to_run_and_pickles_none_of_its_copies() -> None:
    profile = make_profile()
    curve = profile.curve("cond")
    assert profile.curve("cond") is curve
    knots = curve._knots.on(torch.device("meta"))
    assert curve._knots.on(torch.device("meta")) is knots
    again = pickle.loads(pickle.dumps(profile))
    assert again == profile
    assert again.curve("cond")._knots._copies == {}
    tau = torch.tensor([0.3, 0.9])
    for one, other in zip(again.curve("cond")(tau), curve(tau), strict=True):
        assert torch.equal(one, other)
