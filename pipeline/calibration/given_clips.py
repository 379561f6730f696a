"""Reads the videos that a user gives for a calibration, as tensors of a given size.

Finds, decodes, crops and scales them; knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import torch

from pipeline.dataset.mp4 import Frames, decode
from pipeline.errors import UserError
from pipeline.storage.storage import Storage, locate
from pipeline.wording import counted

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


def read_clips(
    uris: Sequence[str], count: int, *, width: int, height: int, num_frames: int
) -> list[torch.Tensor]:
    """Decode the first `count` videos of folders and files, each cut to one size and length.

    Args:
        uris: Files, or folders whose videos are taken in the order of their names; any fsspec
            URI.
        count: Largest number of videos to use.
        width: Width in pixels.
        height: Height in pixels.
        num_frames: Frames to use, from the beginning of each video.

    Returns:
        One float tensor per video, of shape [num_frames, 3, height, width] in 0..1.

    Raises:
        UserError: There is no video, or one cannot be decoded or is too short.
        StorageError: A file cannot be read.
    """
    clips = []
    for storage, key in _files(uris)[:count]:
        try:
            clips.append(fit(decode(storage.read_bytes(key)), width, height, num_frames))
        except ValueError as error:
            raise UserError(f"{storage.uri}/{key}: {error}") from error
    return clips


def fit(frames: Frames, width: int, height: int, num_frames: int) -> torch.Tensor:
    """Cut a video to its first frames, scale it, and crop it to its centre.

    Args:
        frames: uint8 RGB of shape (frames, height, width, 3).
        width: Wanted width in pixels.
        height: Wanted height in pixels.
        num_frames: Wanted number of frames.

    Returns:
        Floats of shape [num_frames, 3, height, width] in 0..1.

    Raises:
        ValueError: The video is too short.
    """
    if len(frames) < num_frames:
        raise ValueError(f"has {counted(len(frames), 'frame')}; {num_frames} are needed")
    video = torch.from_numpy(frames[:num_frames].copy()).permute(0, 3, 1, 2).float() / 255
    scale = max(height / video.shape[2], width / video.shape[3])
    size = [max(round(video.shape[2] * scale), height), max(round(video.shape[3] * scale), width)]
    if size != list(video.shape[2:]):
        video = torch.nn.functional.interpolate(video, size, mode="bilinear", antialias=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return video[:, :, top : top + height, left : left + width].clamp(0, 1).contiguous()


def _files(uris: Sequence[str]) -> list[tuple[Storage, str]]:
    files = []
    for uri in uris:
        storage, name = locate(uri)
        if name and storage.exists(name):
            files.append((storage, name))
            continue
        folder = Storage(uri)
        found = [
            entry.key
            for entry in folder.list()
            if PurePosixPath(entry.key).suffix.lower() in SUFFIXES
        ]
        if not found:
            raise UserError(f"{uri} is no file, and no folder with videos ({', '.join(SUFFIXES)})")
        files += [(folder, key) for key in found]
    return files
