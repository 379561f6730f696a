"""The authors' sensitivity files and what their scripts make of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sencache.families.registry import OFFICIAL_SETTINGS
from sencache.families.wan import WAN
from sencache.profiles.interpolation import NearestCurve
from sencache.profiles.metadata import ProfileError
from sencache.profiles.official import OfficialProfile

SCALES = {family: settings.scale for family, settings in OFFICIAL_SETTINGS.items()}

TIMESTEPS = np.array([999, 995, 900, 500, 20], dtype=np.int64)
J_X = np.array([9.0, 8.0, 4.0, 1.0, 2.0], dtype=np.float32)
J_T = np.array([0.5, 0.25, 2.0, 4.0, 8.0], dtype=np.float32)


def write(folder: Path, **arrays: Any) -> Path:
    path = folder / "sensitivity.npz"
    known = {"timesteps": TIMESTEPS, "J_x_norm": J_X, "J_t_norm": J_T}
    kept = {key: value for key, value in (known | arrays).items() if value is not None}
    np.savez(path, **kept)
    return path


def profile(**fields: Any) -> OfficialProfile:
    known = {
        "timesteps": tuple(TIMESTEPS.tolist()),
        "j_x": tuple(J_X.tolist()),
        "j_t": tuple(J_T.tolist()),
        "family": "wan",
    }
    return OfficialProfile(**(known | fields))


def at(curve: NearestCurve, *timesteps: float) -> tuple[list[float], list[float]]:
    a_x, a_t = curve(torch.tensor(timesteps) / 1000)
    return a_x.tolist(), a_t.tolist()


def test_reads_a_file_of_the_readers_keys(tmp_path: Path) -> None:
    path = write(tmp_path, sample_counts=np.full(5, 8.0))
    read = OfficialProfile.from_npz(path, family="wan")
    assert read == profile(source=str(path))
    assert read.hash == profile().hash


def test_reads_and_averages_what_the_wan_writer_leaves(tmp_path: Path) -> None:
    raw = np.zeros((3, 5, 2), dtype=np.float32)
    raw[0] = np.stack([J_X + 1, J_T + 2], axis=1)
    raw[1] = np.stack([J_X - 1, J_T], axis=1)
    raw[2, 0] = [J_X[0], J_T[0] + 1]  # and the other measurements of the third clip failed
    path = write(tmp_path, J_x_norm=None, J_t_norm=None, raw_data=raw)
    read = OfficialProfile.from_npz(path, family="wan")
    assert read.timesteps == (999, 995, 900, 500, 20)
    assert read.j_x == pytest.approx(J_X)
    assert read.j_t == pytest.approx(J_T + 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"J_t_norm": None}, r"sensitivity.npz lacks J_t_norm; it holds J_x_norm, timesteps"),
        ({"timesteps": None}, "lacks timesteps"),
        ({"J_x_norm": J_X[:4]}, "has 4 values of J_x_norm at 5 timesteps"),
        ({"J_x_norm": J_X * np.float32("nan")}, r"J_x_norm\[0\] is nan"),
        ({"J_t_norm": J_T - 1}, r"J_t_norm\[0\] is -0.5"),
        ({"timesteps": TIMESTEPS * np.inf}, r"timesteps\[0\] is inf"),
        ({"timesteps": TIMESTEPS / 1000}, "largest timestep is 0.999; .* not in 0..1"),
        ({"timesteps": TIMESTEPS * 2}, "largest timestep is 1998"),
        ({"timesteps": TIMESTEPS[:, None]}, r"timesteps has shape \(5, 1\)"),
        ({"J_x_norm": J_X[0]}, r"J_x_norm has shape \(\)"),
        ({"J_x_norm": np.array(["a"] * 5)}, "is not an npz file of numbers"),
        ({"J_x_norm": np.array([{}] * 5)}, "is not an npz file of numbers"),
        ({"sample_counts": np.array([8, 8, 0, 8, 8])}, r"timesteps\[2\] was never measured"),
        ({"timesteps": [], "J_x_norm": [], "J_t_norm": []}, "at least one"),
        ({"J_x_norm": None, "raw_data": np.ones((3, 5))}, r"raw_data has shape \(3, 5\)"),
        ({"J_x_norm": None, "raw_data": np.ones((3, 4, 2))}, "has 4 values"),
        ({"J_x_norm": None, "raw_data": np.zeros((0, 5, 2))}, r"timesteps\[0\] was never"),
        ({"J_x_norm": None, "raw_data": np.full((2, 5, 2), np.nan)}, r"J_x_norm\[0\] is nan"),
    ],
)
def test_a_broken_file_is_one_error_that_names_it(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        OfficialProfile.from_npz(write(tmp_path, **arrays), family="wan")
    assert "sensitivity.npz" in str(caught.value)


@pytest.mark.parametrize("kind", ["npy", "text", "empty", "cut", "flipped"])
def test_another_kind_of_file_is_one_error(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path)
    content = path.read_bytes()
    if kind == "npy":
        with path.open("wb") as file:
            np.save(file, J_X)
    elif kind == "flipped":
        path.write_bytes(content.replace(J_X.tobytes(), (J_X + 1).tobytes()))
    else:
        path.write_bytes({"text": b"hello", "empty": b"", "cut": content[:300]}[kind])
    with pytest.raises(ProfileError, match=r"sensitivity\.npz is not an npz file of numbers"):
        OfficialProfile.from_npz(path, family="wan")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OfficialProfile.from_npz(tmp_path / "none.npz", family="wan")


def test_a_family_without_a_script_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"family 'mochi' \(wan, cogvideox, ltx\)"):
        OfficialProfile.from_npz(write(tmp_path), family="mochi")


def test_the_score_is_the_scripts() -> None:
    generator = torch.Generator().manual_seed(0)
    x, x_r = torch.randn(2, 16, 21, 6, 10, generator=generator).double()
    for family, scale in SCALES.items():
        curve = profile(family=family).curve("cond", x.numel())
        (a_x,), (a_t,) = at(curve, 900)
        ours = a_x * (x - x_r).square().mean().sqrt().item() + a_t * (900 - 480) / 1000
        theirs = 4.0 * torch.linalg.norm(x - x_r).item() + 2.0 * (900 - 480)
        assert ours == pytest.approx(theirs / scale, rel=1e-6)


def test_the_scales_are_the_roots_of_the_latents_sizes() -> None:
    sizes = {"wan": 16 * 21 * 60 * 104, "cogvideox": 16 * 14 * 60 * 90, "ltx": 128 * 21 * 16 * 24}
    assert {family: math.sqrt(size) for family, size in sizes.items()} == pytest.approx(SCALES)


def test_the_nearest_stored_timestep_counts_and_the_first_of_equals() -> None:
    unscaled = profile(timesteps=(999, 995, 900, 500, 20, 24), j_x=(1, 2, 3, 4, 5, 6), j_t=(1,) * 6)
    curve = unscaled.curve("cond", 1)
    times = [1000, 999, 998, 997, 996, 947.5, 947, 700, 699, 23, 22, 21, 0]
    wanted = [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 5, 5, 5]
    a_x, _ = at(curve, *times)
    assert [round(value * SCALES["wan"]) for value in a_x] == wanted
    stored = np.array(unscaled.timesteps)
    assert [int(np.argmin(np.abs(stored - t))) + 1 for t in times] == wanted


def test_every_tie_of_whole_timesteps_goes_to_the_first() -> None:
    for gap in (2, 4, 10, 50):
        stored = tuple(range(1000, -1, -gap))
        values = tuple(map(float, range(len(stored))))
        curve = profile(timesteps=stored, j_x=values, j_t=values).curve("cond", 1)
        a_x, _ = at(curve, *(t - gap // 2 for t in stored[:-1]))
        assert [round(value * SCALES["wan"]) for value in a_x] == list(range(len(stored) - 1))


def test_an_undefined_time_has_no_sensitivity() -> None:
    a_x, a_t = at(profile().curve("uncond", 4), math.nan, 900)
    assert [math.isnan(a_x[0]), math.isnan(a_t[0])] == [True, True]
    assert math.isfinite(a_x[1])
    assert math.isfinite(a_t[1])


def test_the_hash_is_of_what_decides() -> None:
    known = profile().hash
    assert len(known) == 16
    assert profile(source="elsewhere").hash == known
    for change in (
        {"family": "ltx"},
        {"j_x": (9.0, 8.0, 4.0, 1.0, 2.5)},
        {"j_t": tuple(J_X.tolist())},
        {"timesteps": (999, 995, 900, 500, 21)},
        {"num_train_timesteps": 2000},
    ):
        assert profile(**change).hash != known


@pytest.mark.parametrize(
    ("family", "steps", "strict", "forced"),
    [
        ("wan", 50, 10, 0),
        ("wan", 12, 3, 0),  # 4.8 of 24 calls: the third step's first call is the fifth
        ("wan", 11, 2, 0),
        ("cogvideox", 50, 10, 1),
        ("cogvideox", 12, 2, 1),
        ("ltx", 50, 10, 1),
        ("ltx", 25, 5, 0),  # half to even
        ("ltx", 75, 15, 2),
    ],
)
def test_phases_are_rounded_as_the_scripts_round(
    family: str, steps: int, strict: int, forced: int
) -> None:
    settings = OFFICIAL_SETTINGS[family]
    assert settings.strict_steps(steps, settings.strict_fraction) == strict
    assert settings.forced_steps(steps) == forced


def test_settings_of_the_scripts() -> None:
    ltx, readme = OFFICIAL_SETTINGS["ltx"], WAN.official_readme
    assert readme is not None
    assert readme.scale == SCALES["wan"]
    assert (ltx.epsilon, ltx.strict_epsilon, ltx.max_reuse) == (0.7, 0.01, 4)
    assert (readme.epsilon, readme.strict_epsilon, readme.max_reuse) == (2.0, 0.045, 3)
