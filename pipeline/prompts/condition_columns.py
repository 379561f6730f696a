"""The columns that give a clip more to start from than its text, and the files in their cells.

A column has a name and a kind of media. Which of them a model takes, and under which name its call
takes them, is said by its pipeline class (`pipeline.models.spec`). Imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.wording import counted

ConditionColumn = Literal[
    "image", "last_image", "video", "mask", "reference_images", "pose_video", "face_video"
]

MediaKind = Literal["image", "images", "video", "mask"]
"""One image, several in their order, a video, or a mask: an image or a video in black and white."""

CONDITION_COLUMNS: Mapping[ConditionColumn, MediaKind] = {
    "image": "image",
    "last_image": "image",
    "video": "video",
    "mask": "mask",
    "reference_images": "images",
    "pose_video": "video",
    "face_video": "video",
}
"""The kind of media of each column."""


LATE_S = 1e-3
"""A frame that begins this much after its moment still counts for it: time stamps are rounded."""


@dataclass(frozen=True, slots=True)
class MediaCondition:
    """What a pipeline's call takes from a column.

    Attributes:
        column: The column.
        argument: Its name in the call; "" if that is the column's.
        required: Whether every clip needs it.
        needs: Another column without which it means nothing; None for none.
    """

    column: ConditionColumn
    argument: str = ""
    required: bool = True
    needs: ConditionColumn | None = None

    @property
    def kind(self) -> MediaKind:
        """The kind of media in the column."""
        return CONDITION_COLUMNS[self.column]

    @property
    def argument_name(self) -> str:
        """Its name in the call."""
        return self.argument or self.column


FIRST_IMAGE = MediaCondition("image")


@dataclass(frozen=True, slots=True)
class ConditionFile:
    """A file that a clip starts from.

    Attributes:
        column: The column that names it; a column of several images has a file for each.
        sha256: Of the file, hex.
        at: URI of the file.
        seconds: How long a video lasts; None for an image.
    """

    column: ConditionColumn
    sha256: str
    at: str
    seconds: float | None = None


def condition_hashes(files: Iterable[ConditionFile]) -> dict[str, str | list[str]]:
    """The hashes of a clip's files by their column; a list for a column of several images."""
    by_column: dict[ConditionColumn, list[str]] = {}
    for file in files:
        by_column.setdefault(file.column, []).append(file.sha256)
    return {
        column: found if CONDITION_COLUMNS[column] == "images" else found[0]
        for column, found in by_column.items()
    }


def content_of(files: Iterable[ConditionFile]) -> str:
    """What the files of a clip show, as one text; "" without any.

    It decides about seeds and controls. Of a first image alone it is the hash.
    """
    hashes = condition_hashes(files)
    if not hashes.keys() - {"image"}:
        return str(hashes.get("image", ""))
    return ";".join(f"{column}={found}" for column, found in sorted(hashes.items()))


def missing(column: ConditionColumn, *, is_there: bool) -> str:
    """Say that a row lacks what every clip of its model needs.

    Args:
        column: The column.
        is_there: Whether the row has it, without a value.
    """
    return f"{column} is {'empty' if is_there else 'missing'}: this model needs it"


def too_short(seconds: float, fps: int, count: int) -> str:
    """Say that a video ends before the last frame of a clip begins; "" if it does not.

    Args:
        seconds: How long the video lasts.
        fps: Frames per second of the clip.
        count: Frames of the clip.
    """
    if (count - 1) / fps < seconds - LATE_S:
        return ""
    return (
        f"lasts {seconds:.2f} s, and the clip {count / fps:.2f} s ({counted(count, 'frame')}, "
        f"{fps} a second): give a longer one or ask for fewer frames"
    )
