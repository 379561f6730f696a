"""Writes frames and their output row as one mp4, and reads both back.

Uses H.264 in mp4 through PyAV. Knows nothing of storage, of models, or of the row's columns.

The bytes depend only on frames, fps, row and settings: colour conversion is bit-exact, the encoder
has one thread, and there are no dates and no encoder banner (x264 writes its version into the
stream, the muxer its own into the header). Another build of x264 may make other bytes.

The tag also holds a hash over the whole file (`pipeline.dataset.seal`), so that a row can be
recovered from an undamaged file.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import av
import av.container
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.video.reformatter import Colorspace, Interpolation
from av.video.stream import VideoStream

from pipeline.dataset import mp4_sound, seal
from pipeline.dataset.mp4_sound import Samples
from pipeline.storage.scratch_file import scratch_file

Frames = np.ndarray[Any, np.dtype[np.uint8]]
"""RGB frames, uint8, shape (num_frames, height, width, 3)."""

Source = str | os.PathLike[str] | bytes | IO[bytes]
"""A path, the bytes of a file, or a seekable binary file."""

ROW_TAG = "comment"
"""The container tag that holds the row; every tool shows this standard tag."""

DEFAULT_CRF = 16
_PRESET = "medium"

_BT709 = 1
_LIMITED_RANGE = 1
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""swscale's default takes faster paths whose result depends on the alignment of the buffers."""

_REPEATABLE = "mbtree=0"
"""With macroblock-tree rate control, x264 (core 165) encodes the same small frames to other bytes
in about one run of five. Without it, 60 of 60 encodes agreed for each of 18 sizes and contents."""

_NO_BANNER = "filter_units=remove_types=6"
"""Drop SEI units (NAL type 6); the only one in this stream is x264's banner."""


def encode(
    frames: Frames,
    fps: int,
    row: Mapping[str, Any],
    *,
    crf: int = DEFAULT_CRF,
    sound: tuple[Samples, int] | None = None,
) -> bytes:
    """Make an mp4 of frames and their row (H.264 High, yuv420p BT.709, index at the front).

    A sound becomes a track of AAC.

    Args:
        frames: uint8 RGB of shape (num_frames, height, width, 3); height and width even.
        fps: Frames per second; every frame lasts exactly 1 / fps seconds.
        row: The output row; datetimes become ISO 8601 text. Stored whole in `ROW_TAG`.
        crf: x264 constant rate factor; 16 is visually lossless for most content.
        sound: Samples of shape (channels, samples) from -1 to 1, and their rate per second.

    Raises:
        ValueError: Shape, type, size, fps or sound cannot be encoded, or the row is not JSON.
        OSError: There is no memory for the file, or outside of Linux no room on the local disk.
    """
    _check(frames, fps)
    with scratch_file() as (path, contents):
        _encode_to(path, frames, fps, row, crf, sound)
        return seal.close(contents())


def write(
    frames: Frames,
    fps: int,
    row: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    crf: int = DEFAULT_CRF,
    sound: tuple[Samples, int] | None = None,
) -> None:
    """Write the mp4 of `encode` to a local file, which is replaced if it exists."""
    Path(path).write_bytes(encode(frames, fps, row, crf=crf, sound=sound))


def _encode_to(
    path: str,
    frames: Frames,
    fps: int,
    row: Mapping[str, Any],
    crf: int,
    sound: tuple[Samples, int] | None,
) -> None:
    """Write the file with a blank seal."""
    with av.open(
        path,
        "w",
        format="mp4",
        options={
            "movflags": "+faststart",
            "fflags": "+bitexact",
            # Ticks of the movie's duration: the default of 1/1000 s cannot express 1/16 s.
            "movie_timescale": str(1000 * fps),
        },
    ) as container:
        container.metadata[ROW_TAG] = row_json({**row, seal.KEY: seal.BLANK})
        stream = container.add_stream(
            "libx264",
            rate=fps,
            options={
                "crf": str(crf),
                "preset": _PRESET,
                "threads": "1",
                "flags": "+bitexact",
                "x264-params": _REPEATABLE,
            },
        )
        _, stream.height, stream.width, _ = frames.shape
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED_RANGE
        without_banner = BitStreamFilterContext(_NO_BANNER, stream)
        track = mp4_sound.add_track(container, *sound) if sound else None
        for packet in _packets(frames, stream):
            container.mux(without_banner.filter(packet))
        container.mux(without_banner.filter(None))
        if sound and track:
            for heard in mp4_sound.packets(*sound, track):
                container.mux(heard)


def decode(source: Source) -> Frames:
    """Read every frame of the first video stream.

    Args:
        source: Path, bytes or binary file of a video.

    Returns:
        uint8 RGB of shape (num_frames, height, width, 3).

    Raises:
        ValueError: Not a video, no video stream, or fewer frames than its header promises.
        OSError: The file cannot be read.
    """
    with _open(source) as container:
        if not container.streams.video:
            raise ValueError(f"{_name(source)} has no video stream")
        stream = container.streams.video[0]
        promised = max(1, stream.frames)
        frames = [
            frame.to_ndarray(format="rgb24", interpolation=_EXACT, threads=1)
            for frame in container.decode(stream)
        ]
    if len(frames) < promised:
        # A truncated file still has a whole header, because the index comes first.
        raise ValueError(f"{_name(source)} is cut short: {len(frames)} of {promised} frames")
    return np.stack(frames)


def sound_of(source: Source) -> tuple[Samples, int] | None:
    """Samples of shape (channels, samples) and their rate per second; None for a silent video.

    Raises:
        ValueError: Not a video.
    """
    with _open(source) as container:
        return mp4_sound.read_track(container)


def frame_rate(source: Source) -> float:
    """Frames per second of the first video stream; 1 if its header lacks them.

    Raises:
        ValueError: Not a video, or no video stream.
    """
    with _open(source) as container:
        if not container.streams.video:
            raise ValueError(f"{_name(source)} has no video stream")
        return float(container.streams.video[0].average_rate or 1)


def read_row(source: Source) -> dict[str, Any]:
    """Return the row that `encode` put into an mp4; datetimes stay ISO 8601 text.

    Reads the header only, no frames.

    Raises:
        ValueError: Not an mp4, or one that carries no row.
        OSError: The file cannot be read.
    """
    with _open(source) as container:
        text = container.metadata.get(ROW_TAG, "")
    try:
        row = json.loads(text)
    except json.JSONDecodeError:
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"{_name(source)} carries no row in its {ROW_TAG!r} tag")
    row.pop(seal.KEY, None)
    return row


def trusted_row(data: bytes) -> dict[str, Any]:
    """Like `read_row`, for a file of which no byte has changed since `encode`.

    Raises:
        ValueError: The file is truncated, damaged, or not made by `encode`.
    """
    if not seal.is_whole(data):
        raise ValueError(f"{_name(data)} is cut short, damaged, or not made by this pipeline")
    return read_row(data)


def row_json(row: Mapping[str, Any]) -> str:
    """A row as the JSON text that an mp4 carries: ASCII, which every reader handles."""
    return json.dumps(dict(row), sort_keys=True, allow_nan=False, default=_plain)


def _plain(value: Any) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise ValueError(f"a row cannot hold a {type(value).__name__}")


def _check(frames: Frames, fps: int) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(
            f"frames are {frames.dtype} {frames.shape}, not uint8 (num_frames, height, width, 3)"
        )
    count, height, width, _ = frames.shape
    if not count:
        raise ValueError("there are no frames to encode")
    if not height or not width or height % 2 or width % 2:
        raise ValueError(f"{width}x{height} cannot be yuv420p: width and height must be even")
    if fps < 1:
        raise ValueError(f"fps is {fps}, not a positive whole number")


def _packets(frames: Frames, stream: VideoStream) -> Iterator[av.Packet[VideoStream]]:
    for index, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        # Name the matrix: swscale would use BT.601 and shift the colours.
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, interpolation=_EXACT, threads=1
        )
        frame.pts = index
        yield from stream.encode(frame)
    yield from stream.encode(None)


@contextlib.contextmanager
def _open(source: Source) -> Iterator[av.container.InputContainer]:
    if isinstance(source, bytes):
        file: str | IO[bytes] = io.BytesIO(source)
    else:
        file = os.fspath(source) if isinstance(source, os.PathLike) else source
    try:
        with av.open(file, "r") as container:
            yield container
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise ValueError(f"{_name(source)} is not a whole video: {error.strerror}") from error


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return f"a video of {len(source):,} bytes"
    return str(Path(source)) if isinstance(source, str | os.PathLike) else repr(source)
