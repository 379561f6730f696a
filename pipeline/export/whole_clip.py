"""The files of one clip of an export, checked against its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.dataset.whole_clips import DamagedClipError, read_clip
from pipeline.storage.storage import Storage
from pipeline.tensors.tensor_file import DamagedTensorsError, read_tensors


@dataclass(frozen=True, slots=True)
class WholeClip:
    """The files of a clip.

    Attributes:
        mp4: Its video.
        tensors: Its tensors, as safetensors; None if it has none, or they are
            not exported.
    """

    mp4: bytes
    tensors: bytes | None = None


def read_whole(storage: Storage, row: Mapping[str, Any], *, tensors: bool) -> WholeClip:
    """Read the files of a row.

    Args:
        storage: The output prefix.
        row: An ok row.
        tensors: Whether its tensors are exported.

    Raises:
        DamagedClipError: What is wrong with one of them.
        StorageError: The store cannot be read.
    """
    mp4 = read_clip(storage, row)
    try:
        return WholeClip(mp4, read_tensors(storage, row) if tensors else None)
    except DamagedTensorsError as error:
        raise DamagedClipError(str(error)) from error
