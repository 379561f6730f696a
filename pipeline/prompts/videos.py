"""Reads the frames of a video in memory, as 8-bit RGB.

A clip that follows a video shows it at the video's own speed: frame k of a clip with f frames per
second is the one that the video shows after k / f seconds.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import av.error
from av.video.reformatter import Interpolation
from PIL import Image

from pipeline.prompts.condition_columns import LATE_S, too_short

MAX_FRAMES = 20_000
"""Longer videos are refused: every frame is decoded."""

MAX_PIXELS = 1 << 25
"""Largest frame of a video, 8192 x 4096."""

_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def duration_s(data: bytes) -> float:
    """Decode a whole video and say how long it lasts, in seconds.

    Raises:
        ValueError: It is no video, it is damaged, or it is too large.
    """
    end = 0.0
    for begin, length, _ in _frames(data):
        end = begin + length
    return end


def frames_at(data: bytes, fps: int, count: int) -> list[Image.Image]:
    """Return the frames that a video shows at the moments of a clip's frames, RGB.

    Args:
        data: The file.
        fps: Frames per second of the clip.
        count: Frames of the clip.

    Raises:
        ValueError: It is no video, it is damaged or too large, or it ends before the clip does.
    """
    found: list[Image.Image] = []
    latest: av.VideoFrame | None = None
    end = 0.0
    for begin, length, frame in _frames(data):
        while latest is not None and len(found) < count and begin > len(found) / fps + LATE_S:
            found.append(_picture(latest))
        latest, end = frame, begin + length
        if len(found) == count:
            break
    while latest is not None and len(found) < count and len(found) / fps < end - LATE_S:
        found.append(_picture(latest))
    if len(found) < count:
        raise ValueError(too_short(end, fps, count))
    return found


def _frames(data: bytes) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Yield begin and length in seconds, and each frame; the first one begins at 0."""
    try:
        with av.open(io.BytesIO(data), "r") as container:
            if not container.streams.video:
                raise ValueError("holds no video")
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_PIXELS:
                raise ValueError(f"has frames of more than {MAX_PIXELS:,} pixels")
            length = 1.0 / float(stream.average_rate or 1)
            promised, count, start = stream.frames, 0, 0.0
            for frame in container.decode(stream):
                begin = count * length if frame.time is None else frame.time
                if not count:
                    start = begin
                if count == MAX_FRAMES:
                    raise ValueError(f"has more frames than the limit of {MAX_FRAMES:,}")
                count += 1
                yield begin - start, length, frame
            if count < max(1, promised):
                raise ValueError(f"is cut short: {count} of {promised} frames")
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"cannot be decoded ({error.strerror or error})") from error


def _picture(frame: av.VideoFrame) -> Image.Image:
    return Image.fromarray(frame.to_ndarray(format="rgb24", interpolation=_EXACT, threads=1))
