"""What a captioner is: the frames of a clip in, a text out.

`--captioner` takes a name of `CAPTIONERS`, the name of an entry point in the group
`sencache_pipeline.captioners`, or `module:Class`, each with or without `=ARGUMENT`
(`pipeline.extensions`).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from pipeline.dataset import mp4
from pipeline.dataset.whole_clips import DamagedClipError, read_clip
from pipeline.errors import message_of
from pipeline.extensions import ExtensionPoint
from pipeline.scoring.scorer import Frames
from pipeline.storage.storage import Storage

ENTRY_POINTS = "sencache_pipeline.captioners"
"""Group of the entry points through which an installed package offers captioners."""

CAPTIONERS: Mapping[str, str] = {
    "vision-language": "pipeline.captioning.vision_language:VisionLanguageCaptioner",
}
"""Class of each captioner that comes with the package, as `module:Class`."""

LONGEST_ERROR = 300
"""Characters of the reason that is kept where a clip gets no caption."""


@runtime_checkable
class Captioner(Protocol):
    """Writes captions; one instance serves one process and one clip at a time.

    Attributes:
        name: Lower-case name.
        version: Of its method or weights. A clip gets one caption per `name@version`; change it
            whenever the caption of a clip can change.
    """

    name: str
    version: str

    def caption(self, frames: Frames, fps: float, prompt: str) -> str:
        """Describe a clip.

        Args:
            frames: uint8 RGB of shape [frames, height, width, 3]; not to be changed.
            fps: Frames per second.
            prompt: What the clip was made from.

        Raises:
            Exception: The clip stays without this caption, and the reason is stored.
        """
        ...


_POINT = ExtensionPoint(
    flag="--captioner",
    noun="captioner",
    protocol=f"{Captioner.__module__}.{Captioner.__qualname__}",
    members=("name", "version", "caption"),
    group=ENTRY_POINTS,
    known=CAPTIONERS,
)


def load_captioner(text: str) -> Captioner:
    """Make a captioner.

    Args:
        text: As `--captioner` takes it.

    Raises:
        UserError: The name is unknown, the class cannot be imported or called, or is no captioner.
    """
    captioner: Captioner = _POINT.make(text)
    return captioner


def identity(captioner: Captioner) -> str:
    """Return `name@version`."""
    return f"{captioner.name}@{captioner.version}"


def caption_row(storage: Storage, captioner: Captioner, row: Mapping[str, Any]) -> dict[str, Any]:
    """Read the clip of a row and caption it, as a row of `CAPTION_SCHEMA`.

    A clip that is missing or damaged, or that the captioner fails at, gets a reason instead.

    Raises:
        StorageError: The store cannot be read.
    """
    began = time.monotonic()
    try:
        frames = mp4.decode(read_clip(storage, row))
    except (DamagedClipError, ValueError) as error:
        text, reason = "", message_of(error)
    else:
        text, reason = _answer(captioner, frames, row)
    return {
        "sample_id": row["sample_id"],
        "media_sha256": row["media_sha256"],
        "captioner": identity(captioner),
        "recaption": text,
        "error": reason[:LONGEST_ERROR],
        "caption_s": time.monotonic() - began,
        "captioned_at": datetime.datetime.now(datetime.UTC),
    }


def _answer(captioner: Captioner, frames: Frames, row: Mapping[str, Any]) -> tuple[str, str]:
    """What the captioner writes, or why it writes nothing."""
    frames.flags.writeable = False
    try:
        return _checked(captioner.caption(frames, row["fps"], row["caption"])), ""
    except Exception as error:  # noqa: BLE001 - a captioner never costs a clip
        return "", f"{type(error).__name__}: {message_of(error)}"


def _checked(text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the captioner gave no text")
    return text.strip()
