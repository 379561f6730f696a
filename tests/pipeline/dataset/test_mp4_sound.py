"""The sound track of an mp4: what is heard is what was given, at its rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset import mp4

FRAMES = np.zeros((16, 32, 32, 3), np.uint8)


def tone(rate: int, channels: int, seconds: float = 2.0) -> np.ndarray[tuple[int, int], np.dtype]:
    """A tone of 200 Hz, of a phase of its own in each channel."""
    at = np.arange(round(rate * seconds)) / rate
    phases = np.arange(channels)[:, None]
    return (0.5 * np.sin(2 * np.pi * 200 * at + phases)).astype(np.float32)


@pytest.mark.parametrize(("rate", "channels"), [(24_000, 2), (44_100, 1), (5_000, 2)])
def test_a_sound_comes_back(rate: int, channels: int, tmp_path: Path) -> None:
    path, given = tmp_path / "a.mp4", tone(rate, channels)
    mp4.write(FRAMES, 8, {"a": 1}, path, sound=(given, rate))
    heard = mp4.sound_of(path)
    assert heard is not None
    samples, own = heard
    assert own == (rate if rate != 5_000 else 48_000)
    assert len(samples) == channels
    assert abs(samples.shape[1] / own - 2.0) < 0.1
    wanted = tone(own, channels)[:, own // 2 : own]
    assert np.abs(samples[:, own // 2 : own] - wanted).mean() < 0.05
    assert np.array_equal(mp4.decode(path), mp4.decode(path.read_bytes()))
    assert mp4.trusted_row(path.read_bytes()) == {"a": 1}


def test_the_bytes_depend_on_frames_and_sound_alone(tmp_path: Path) -> None:
    files = []
    for name, sound in (("a", tone(24_000, 2)), ("b", tone(24_000, 2)), ("c", None)):
        path = tmp_path / f"{name}.mp4"
        mp4.write(FRAMES, 8, {}, path, sound=None if sound is None else (sound, 24_000))
        files.append(path.read_bytes())
    assert files[0] == files[1] != files[2]
    assert mp4.sound_of(files[2]) is None


def test_a_sound_of_other_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use 1 or 2 channels"):
        mp4.write(FRAMES, 8, {}, tmp_path / "a.mp4", sound=(np.zeros((5, 9), np.float32), 8000))
