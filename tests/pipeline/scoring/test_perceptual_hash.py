"""Near duplicates share most bits of their hashes, and groups of them are found without misses."""

from __future__ import annotations

import random
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scoring import perceptual_hash
from pipeline.scoring.perceptual_hash import (
    BITS,
    HASH_VERSION,
    NEAR_BITS,
    clip_hash,
    distance,
    duplicate_groups,
)
from tests.pipeline.scoring.made_clips import blurred, cropped, moving


def far(one: str, other: str) -> int:
    found = distance(one, other)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(5))
def test_small_changes_keep_a_clip_near_itself_and_others_far(seed: int) -> None:
    clip = moving(seed)
    own = clip_hash(clip)
    noise = np.random.default_rng(seed).normal(0, 4, clip.shape)
    noisy = np.clip(clip + noise, 0, 255).astype(np.uint8)
    darker = (clip * 0.8).astype(np.uint8)
    for changed in (noisy, darker, blurred(clip, 1.0), cropped(clip, 0.03)):
        assert far(own, clip_hash(changed)) <= NEAR_BITS
    assert far(own, clip_hash(moving(seed + 100))) > NEAR_BITS
    larger = clip.repeat(3, axis=1).repeat(3, axis=2)
    assert far(own, clip_hash(larger)) <= 8


def test_a_hash_says_its_version_and_other_versions_are_not_compared() -> None:
    own = clip_hash(moving())
    assert own.startswith(f"{HASH_VERSION}:")
    assert distance(own, own) == 0
    assert distance(own, own.replace(HASH_VERSION, "p0")) is None
    assert duplicate_groups([("a", own), ("b", own.replace(HASH_VERSION, "p0"))]) == {}


def test_a_clip_without_a_hash_is_in_no_group() -> None:
    own = clip_hash(moving())
    assert duplicate_groups([("a", ""), ("b", own), ("c", ""), ("d", own)]) == {"d": "b"}


def plain_groups(hashes: list[tuple[str, str]], near_bits: int) -> dict[str, str]:
    """The definition: each clip joins the first earlier one that stands for itself."""
    firsts: list[tuple[str, str]] = []
    groups = {}
    for sample_id, text in hashes:
        near = [first for first, other in firsts if far(text, other) <= near_bits]
        if near:
            groups[sample_id] = near[0]
        else:
            firsts.append((sample_id, text))
    return groups


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    near_bits=st.sampled_from([0, 10, 24, NEAR_BITS]),
    rows=st.sampled_from([1, 5, 512]),
    columns=st.sampled_from([1, 3, 8192]),
)
def test_groups_are_those_of_comparing_all_pairs(
    seed: int, near_bits: int, rows: int, columns: int
) -> None:
    rng = random.Random(seed)
    width = -(-BITS // 16) * 16
    hashes: list[tuple[str, str]] = []
    bases = [rng.getrandbits(width) for _ in range(3)]
    for number in range(24):
        bits = rng.choice(bases)
        for place in rng.sample(range(width), rng.randrange(0, near_bits + 12)):
            bits ^= 1 << place
        hashes.append((f"{number:02d}", f"{HASH_VERSION}:{bits:0{width // 4}x}"))
    with mock.patch.multiple(perceptual_hash, ROWS=rows, COLUMNS=columns):
        assert duplicate_groups(hashes, near_bits) == plain_groups(hashes, near_bits)
