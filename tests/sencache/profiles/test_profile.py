from __future__ import annotations

import dataclasses
import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sencache import ProfileError, ProfileWarning, SensitivityProfile
from sencache.profiles.metadata import SensitivityPoint, architecture_of
from tests.sencache.support.toys import (
    LinearTransformer,
    euler,
    make_profile,
    tiny_wan,
    unipc,
)

VALUES = st.floats(0, 1e6, allow_nan=False, width=32)


@given(
    tau=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20, unique=True),
    values=st.lists(VALUES, min_size=4, max_size=4),
)
def test_json_round_trip_is_exact(tau: list[float], values: list[float]) -> None:
    points = tuple(SensitivityPoint(t, *values) for t in sorted(tau, reverse=True))
    profile = SensitivityProfile(make_profile().metadata, {"cond": points})
    again = SensitivityProfile.from_json(profile.to_json())
    assert again == profile
    assert again.hash == profile.hash


def test_file_round_trip_and_layout(tmp_path: Path) -> None:
    profile = make_profile(a_x=[3.0, 2.0, 1.0])
    path = tmp_path / "profile.json"
    profile.save(path)
    assert SensitivityProfile.load(path) == profile
    lines = path.read_text().splitlines()
    assert sum('"tau"' in line for line in lines) == 6  # one point a line, two branches of three
    assert json.loads(path.read_text())["hash"] == profile.hash


def test_hash_covers_what_decides_and_only_that() -> None:
    base = make_profile(a_x=[3.0, 2.0])
    assert len(base.hash) == 16
    for same in (
        make_profile(a_x=[3.0, 2.0], model="other", num_clips=100),
        SensitivityProfile(
            base.metadata,
            {
                branch: tuple(dataclasses.replace(point, a_x_spread=9.0) for point in points)
                for branch, points in base.branches.items()
            },
        ),
    ):
        assert same.hash == base.hash
    for other in (
        make_profile(a_x=[3.0, 2.5]),
        make_profile(a_x=[3.0, 2.0], a_t=2.0),
        make_profile(a_x=[3.0, 2.0], branches=("cond",)),
        make_profile(a_x=[3.0, 2.0], num_train_timesteps=100),
    ):
        assert other.hash != base.hash


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data.update(format="x/2"), "format 'x/2'; this version reads"),
        (lambda data: data.pop("metadata"), "not a usable profile: 'metadata'"),
        (lambda data: data["metadata"].update(colour="red"), "colour"),
        (lambda data: data["branches"].pop("cond"), "no branch 'cond'"),
        (lambda data: data["branches"]["cond"].pop(), "cond has 1 points; at least 2"),
        (lambda data: data["branches"]["cond"][1].update(tau=1.0), r"cond\[1\].tau is 1.0"),
        (lambda data: data["branches"]["cond"][0].update(a_x=-1), r"cond\[0\].a_x is -1"),
        (lambda data: data["branches"]["cond"][0].update(a_t="big"), r"cond\[0\].a_t is 'big'"),
        (lambda data: data["branches"]["cond"][0].update(a_x=2.0), "damaged or was edited"),
        (lambda data: data["branches"]["cond"][0].update(a_x=True), r"cond\[0\].a_x is True"),
        (lambda data: data["branches"]["cond"][0].update(a_x=10**400), r"cond\[0\].a_x is 100"),
        (lambda data: data["branches"]["cond"][0].update(b=1), "unexpected keyword argument 'b'"),
        (lambda data: data["branches"]["cond"][0].pop("a_t"), "a_t"),
        (lambda data: data.update(branches=[]), "not a usable profile"),
        (lambda data: data["branches"].update(uncond=5), "not a usable profile"),
        (lambda data: data["metadata"].pop("model"), "model"),
        (lambda data: data["metadata"].update(num_train_timesteps="x"), "timesteps is 'x'"),
        (lambda data: data["metadata"].update(num_train_timesteps=0), "timesteps is 0"),
        (lambda data: data["metadata"].update(num_train_timesteps=500), "damaged or was edited"),
        (lambda data: data.update(hash=""), "damaged or was edited"),
    ],
)
def test_a_bad_file_is_refused_by_name(edit: Any, message: str, tmp_path: Path) -> None:
    data = json.loads(make_profile().to_json())
    edit(data)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ProfileError, match=message) as caught:
        SensitivityProfile.load(path)
    assert str(path) in str(caught.value)


@given(data=st.data())
def test_any_one_wrong_character_is_told_or_harmless(data: st.DataObject) -> None:
    profile = make_profile(a_x=[3.25, 2.5, 1.0], a_t=[0.125, 7.0, 12.5])
    text = profile.to_json()
    place = data.draw(st.integers(0, len(text) - 1))
    wrong = text[:place] + data.draw(st.characters(codec="utf-8")) + text[place + 1 :]
    try:
        read = SensitivityProfile.from_json(wrong)
    except ProfileError:
        return
    assert read.hash == profile.hash  # the same verdicts, so the same pixels


@given(st.integers(0, 10_000))
def test_a_file_cut_short_is_refused(length: int) -> None:
    text = make_profile(a_x=[3.0, 2.0, 1.0]).to_json().rstrip()
    with pytest.raises(ProfileError):
        SensitivityProfile.from_json(text[: length % len(text)])


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match=r"profile\.json is not JSON"):
        SensitivityProfile.load(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "1" * 5000, "[" * 100_000])
def test_text_that_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(ProfileError, match="here"):
        SensitivityProfile.from_json(text, origin="here")


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5])
def test_values_must_be_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ProfileError, match="finite number >= 0"):
        make_profile(a_x=[1.0, value])


def test_check_accepts_the_run_it_was_made_for() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_profile().check(
            model="tiny", revision="1", family="wan", scheduler=euler(), dtype=torch.float32
        )
        make_profile().check()


def test_architecture_is_compared_where_the_profile_knows_it() -> None:
    small, large = architecture_of(tiny_wan()), architecture_of(LinearTransformer(1.0, 1.0))
    assert len(small) == 12
    assert small == architecture_of(tiny_wan(seed=1))  # other weights
    make_profile().check(architecture=small)  # a file from before
    make_profile(architecture=small).check(architecture=small)
    make_profile(architecture=small).check()
    with pytest.raises(ProfileError, match=f"architecture {large!r} but the run has {small!r}"):
        make_profile(architecture=large).check(architecture=small)
    assert make_profile(architecture=large).hash == make_profile().hash


def test_architecture_is_that_of_the_public_config_and_survives_saving(tmp_path: Path) -> None:
    network = tiny_wan()
    before = architecture_of(network)
    network.save_pretrained(tmp_path)
    assert architecture_of(type(network).from_pretrained(tmp_path)) == before
    network.register_to_config(_name_or_path="elsewhere", added_by_an_update=None)
    assert architecture_of(network) == before
    network.register_to_config(ffn_dim=64)
    assert architecture_of(network) != before


@pytest.mark.parametrize("wanted", [{"model": "big"}, {"revision": "2"}, {"family": "ltx"}])
def test_check_refuses_another_network(wanted: dict[str, str]) -> None:
    with pytest.raises(ProfileError, match=next(iter(wanted))):
        make_profile().check(**wanted)  # type: ignore[arg-type]


def test_check_refuses_another_unit_of_time() -> None:
    with pytest.raises(ProfileError, match="num_train_timesteps 500"):
        make_profile(num_train_timesteps=500).check(scheduler=euler())


def test_check_warns_of_other_sampling() -> None:
    with pytest.warns(ProfileWarning, match="sampler"):
        make_profile().check(scheduler=unipc())
    with pytest.warns(ProfileWarning, match=r"shift 5\.0"):
        make_profile(shift=5.0).check(scheduler=euler())
    with pytest.warns(ProfileWarning, match="dtype 'float32' but the run has 'bfloat16'"):
        make_profile().check(dtype=torch.bfloat16)
    profile = make_profile()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for once in (True, True, False):  # of two networks, or of two calls
            profile.check(dtype=torch.bfloat16, once=once)
        profile.check(scheduler=unipc(), once=True)
    assert len(found) == 3


def test_a_missing_branch_is_named() -> None:
    with pytest.raises(ProfileError, match="'uncond'; calibrate with guidance"):
        make_profile(branches=("cond",)).curve("uncond")
