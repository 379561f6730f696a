"""A perceptual hash of a clip, and groups of clips whose hashes are near one another.

Clips are near duplicates if they show the same thing at the same time: re-encoding, a small change
of size or brightness and a small crop keep most bits. Each row holds the hash of its clip, so
duplicates are found over a whole dataset, whichever runs made it, without reading any clip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pipeline.scoring.scorer import Frames

HASH_VERSION = "p1"
"""Prefix of every hash; hashes of different versions are never compared."""

MOMENTS = (1 / 6, 3 / 6, 5 / 6)
"""Where in the clip frames are hashed."""

LUMA_SIDE, CHROMA_SIDE, CANVAS = 8, 5, 32
"""The lowest frequencies that count, a side, of frames of so many pixels a side."""

BITS = len(MOMENTS) * (LUMA_SIDE**2 + 2 * CHROMA_SIDE**2 - 3)

NEAR_BITS = 64
"""Near duplicates differ in at most so many bits; see BENCHMARKS.md for how often that errs."""

Codes = np.ndarray[Any, np.dtype[np.uint16]]
"""Hashes in chunks of 16 bits, of shape [clips, chunks]."""

CHUNK_BITS = 16

ROWS, COLUMNS = 512, 8192
"""Sizes of the blocks of clips that are compared at once: 16 MB of products."""


def clip_hash(frames: Frames) -> str:
    """Return the perceptual hash of a clip, as its version and hex digits.

    Args:
        frames: uint8 RGB of shape (frames, height, width, 3).
    """
    bits = [bit for moment in MOMENTS for bit in _frame_bits(frames[int(moment * len(frames))])]
    bits += [False] * (-len(bits) % CHUNK_BITS)
    return f"{HASH_VERSION}:{np.packbits(bits).tobytes().hex()}"


def _frame_bits(frame: Any) -> list[bool]:
    """Signs of low frequencies against their median, of luma and both chromas, without the mean."""
    small = cv2.resize(frame, (CANVAS, CANVAS), interpolation=cv2.INTER_AREA)
    planes = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb)
    bits: list[bool] = []
    for channel, side in ((0, LUMA_SIDE), (1, CHROMA_SIDE), (2, CHROMA_SIDE)):
        low = cv2.dct(np.ascontiguousarray(planes[..., channel]))[:side, :side].ravel()[1:]
        bits += (low > np.median(low)).tolist()
    return bits


def distance(one: str, other: str) -> int | None:
    """Bits in which two hashes differ; None if they are of different versions."""
    if one.partition(":")[0] != other.partition(":")[0]:
        return None
    return int(_distances(_codes([one]), _codes([other])[0])[0])


def duplicate_groups(
    hashes: Sequence[tuple[str, str]], near_bits: int = NEAR_BITS
) -> dict[str, str]:
    """Find near duplicates in a dataset.

    The first clip of a group, by its order here, stands for the group: every other member is within
    `near_bits` of it. A chain of small differences therefore never joins clips that are far apart.

    Args:
        hashes: Sample id and hash of each clip, in an order that does not change as the dataset
            grows, or its groups change too. Clips without a hash ("") are in no group.
        near_bits: Most bits in which members differ from the first.

    Returns:
        The id of the first clip by the id of each later member.
    """
    groups: dict[str, str] = {}
    by_version: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for sample_id, text in hashes:
        if text:
            by_version[text.partition(":")[0]].append((sample_id, text))
    for members in by_version.values():
        groups |= _groups(members, near_bits)
    return groups


def _groups(members: Sequence[tuple[str, str]], near_bits: int) -> dict[str, str]:
    """Groups of clips whose hashes have one version.

    With bits as -1 and 1, the product of two hashes is the number of their bits less twice their
    distance; so blocks of clips are compared by matrix products, which are exact in float32.
    """
    signs = _signs([text for _, text in members])
    least = signs.shape[1] - 2 * near_bits
    firsts = np.empty(0, np.int64)
    groups: dict[str, str] = {}
    for start in range(0, len(members), ROWS):
        block = signs[start : start + ROWS]
        first = np.full(len(block), -1)
        for some in range(0, len(firsts), COLUMNS):
            near = block @ signs[firsts[some : some + COLUMNS]].T >= least
            found = (first < 0) & near.any(axis=1)
            first[found] = firsts[some + near[found].argmax(axis=1)]
        near = block @ block.T >= least
        new: list[int] = []
        for at in range(len(block)):
            if first[at] < 0:
                before = np.flatnonzero(near[at, new])
                if len(before):
                    first[at] = start + new[int(before[0])]
                else:
                    new.append(at)
        for at, of in enumerate(first.tolist()):
            if of >= 0:
                groups[members[start + at][0]] = members[of][0]
        firsts = np.append(firsts, start + np.array(new, np.int64))
    return groups


def _signs(hashes: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Bits of hashes as -1 and 1, shape [clips, bits]."""
    bits = np.unpackbits(_codes(hashes).view(np.uint8), axis=1)
    return bits.astype(np.float32) * 2 - 1


def _codes(hashes: Sequence[str]) -> Codes:
    data = b"".join(bytes.fromhex(text.partition(":")[2]) for text in hashes)
    return np.frombuffer(data, dtype=np.uint16).reshape(len(hashes), -1)


def _distances(codes: Codes, code: Codes) -> np.ndarray[Any, Any]:
    """Bits in which each of several hashes differs from one, shape [clips]."""
    found: np.ndarray[Any, Any] = np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.int64)
    return found
