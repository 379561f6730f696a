"""Videos that clips follow: frames by their moments, and files that are no videos."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.dataset import mp4
from pipeline.prompts.condition_columns import too_short
from pipeline.prompts.videos import duration_s, frames_at


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds at 16 frames a second; each frame is brighter than the one before."""
    path = tmp_path_factory.mktemp("videos") / "ramp.mp4"
    levels = np.linspace(20, 230, 32).astype(np.uint8)
    mp4.write(np.broadcast_to(levels[:, None, None, None], (32, 32, 48, 3)), 16, {}, path)
    return path.read_bytes()


def levels(data: bytes, fps: int, count: int) -> list[float]:
    return [float(np.asarray(frame).mean()) for frame in frames_at(data, fps, count)]


@pytest.mark.parametrize(("fps", "step"), [(16, 1), (8, 2), (4, 4)])
def test_a_clip_shows_the_video_at_its_own_speed(video: bytes, fps: int, step: int) -> None:
    every = levels(video, 16, 32)
    assert every == sorted(every)
    assert len(set(every)) == 32
    assert levels(video, fps, 32 // step) == every[::step]


def test_a_faster_clip_repeats_frames(video: bytes) -> None:
    assert levels(video, 32, 8) == [level for level in levels(video, 16, 4) for _ in range(2)]


def test_a_video_must_last_as_long_as_its_clip(video: bytes) -> None:
    seconds = duration_s(video)
    assert abs(seconds - 2.0) < 1e-6
    assert too_short(seconds, 16, 32) == ""
    assert "lasts 2.00 s, and the clip 2.06 s" in too_short(seconds, 16, 33)
    with pytest.raises(ValueError, match="give a longer one or ask for fewer frames"):
        frames_at(video, 16, 33)


def test_what_is_no_whole_video_is_refused(video: bytes) -> None:
    for data in (b"not a video", video[: len(video) // 2], b""):
        with pytest.raises(ValueError, match=r"cannot be decoded|is cut short"):
            duration_s(data)
