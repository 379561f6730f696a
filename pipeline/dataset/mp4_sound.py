"""The sound track of an mp4: AAC through PyAV, written beside the frames and read back.

The encoder works bit-exactly, with one thread. Its first samples are a delay that players and this
reader leave out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

Samples = np.ndarray[Any, np.dtype[np.float32]]
"""Shape (channels, samples), from -1 to 1."""

BIT_RATE_PER_CHANNEL = 96_000
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
"""Sample rates that AAC has; others are resampled to the highest that is common."""
COMMON_RATE = 48_000
_LAYOUTS = {1: "mono", 2: "stereo"}


def add_track(container: OutputContainer, samples: Samples, rate: int) -> AudioStream:
    """Add the track of a sound to a container that is being written.

    Raises:
        ValueError: The sound has other than one or two channels.
    """
    if samples.ndim != 2 or len(samples) not in _LAYOUTS:
        raise ValueError(f"a sound of shape {samples.shape} has no layout: use 1 or 2 channels")
    stream: AudioStream = container.add_stream(
        "aac",
        rate=rate if rate in RATES else COMMON_RATE,
        layout=_LAYOUTS[len(samples)],
        options={"flags": "+bitexact", "threads": "1"},
    )
    stream.bit_rate = BIT_RATE_PER_CHANNEL * len(samples)
    return stream


def packets(samples: Samples, rate: int, stream: AudioStream) -> Iterator[av.Packet[AudioStream]]:
    """Encode a sound for its track."""
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples, dtype=np.float32),
        format="fltp",
        layout=_LAYOUTS[len(samples)],
    )
    frame.sample_rate, frame.pts = rate, 0
    resampler = AudioResampler(
        format=stream.codec_context.format,
        layout=stream.layout,
        rate=stream.rate,
        frame_size=stream.codec_context.frame_size,
    )
    for part in (frame, None):
        for cut in resampler.resample(part):
            yield from stream.encode(cut)
    yield from stream.encode(None)


def read_track(container: InputContainer) -> tuple[Samples, int] | None:
    """Return the samples and the rate of the first sound track; None without one."""
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    parts = [frame.to_ndarray() for frame in container.decode(stream)]
    if not parts:
        return None
    return np.concatenate(parts, axis=1), int(stream.rate or 0)
