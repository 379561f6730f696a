"""Videos that a user gives: found, decoded, cut to size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.calibration.given_clips import fit, read_clips
from pipeline.dataset.mp4 import Frames, write
from pipeline.errors import StorageError, UserError

SIZE = {"width": 32, "height": 16, "num_frames": 5}


def frames(count: int = 5, height: int = 16, width: int = 32, shade: int = 0) -> Frames:
    picture = np.full((count, height, width, 3), shade, np.uint8)
    picture[:, :, width // 2 :] += 100
    return picture


def save(path: Path, video: Frames) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(video, 8, {}, path, crf=1)


def test_a_video_of_the_right_size_is_kept_as_it_is() -> None:
    video = np.random.default_rng(0).integers(0, 256, (5, 16, 32, 3), np.uint8)
    got = fit(video, **SIZE)
    assert got.shape == (5, 3, 16, 32)
    assert torch.equal(got, torch.from_numpy(video).permute(0, 3, 1, 2) / 255)


@pytest.mark.parametrize(("height", "width"), [(16, 100), (64, 32), (33, 47), (8, 16), (7, 9)])
def test_any_size_is_scaled_and_cut_in_the_middle(height: int, width: int) -> None:
    video = frames(9, height, width)
    got = fit(video, **SIZE)
    assert got.shape == (5, 3, 16, 32)
    assert got.min() >= 0
    assert got.max() <= 100 / 255 + 1e-6
    assert got[..., :8].max() < 0.05  # left and right stay where they are
    assert got[..., -8:].min() > 100 / 255 - 0.05


def test_a_short_video_is_refused() -> None:
    with pytest.raises(ValueError, match="has 4 frames; 5 are needed"):
        fit(frames(4), **SIZE)


def test_folders_and_files_are_read_in_order(tmp_path: Path) -> None:
    for index, name in enumerate(("b/x.mp4", "a.mp4", "c.MP4")):
        save(tmp_path / "videos" / name, frames(shade=50 * index))
    (tmp_path / "videos" / "notes.txt").write_text("no video")
    save(tmp_path / "alone.mp4", frames(shade=150))
    uris = [str(tmp_path / "videos"), str(tmp_path / "alone.mp4")]
    shades = [round(clip[0, 0, 8, 4].item() * 255) for clip in read_clips(uris, 9, **SIZE)]
    assert shades == pytest.approx([50, 0, 100, 150], abs=3)
    assert len(read_clips(uris, 2, **SIZE)) == 2


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    save(tmp_path / "short.mp4", frames(3))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    for uri, message in (
        ("short.mp4", r"short\.mp4: has 3 frames"),
        ("broken.mp4", r"broken\.mp4: .*not a whole video"),
        ("empty", "no folder with videos"),
        ("missing", "no folder with videos"),
    ):
        with pytest.raises((UserError, StorageError), match=message):
            read_clips([str(tmp_path / uri)], 8, **SIZE)
