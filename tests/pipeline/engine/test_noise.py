"""The generator of a sample, against the twister's published start from several words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.noise import generator


def words(seed: int, count: int) -> list[int]:
    """The first words of the twister, without their highest bit."""
    drawn = torch.empty(count, dtype=torch.int32).random_(generator=generator(seed))
    return [int(value) for value in drawn]


@given(st.integers(0, 2**32 - 1))
def test_a_seed_of_32_bits_gives_torch_s_own_numbers(seed: int) -> None:
    own = torch.randn(40, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.randn(40, generator=generator(seed)), own)


@given(st.integers(0, 2**64 - 1), st.integers(0, 63))
def test_every_bit_of_a_seed_counts(seed: int, bit: int) -> None:
    one, two = (torch.randn(16, generator=generator(each)) for each in (seed, seed ^ (1 << bit)))
    assert not torch.equal(one, two)
    assert torch.equal(one, torch.randn(16, generator=generator(seed)))


@pytest.mark.parametrize("seed", [2**32, 2**32 + 5, 7 << 32 | 5, 2**63, 2**64 - 1])
def test_a_longer_seed_starts_the_twister_from_both_halves(seed: int) -> None:
    """Numpy's own draws from the same start are the oracle, so the state is placed right."""
    oracle = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])
    drawn = oracle.randint(0, 2**32, 2000, dtype=np.uint64)
    assert words(seed, 2000) == (drawn % 2**31).tolist()
    assert generator(seed).initial_seed() % 2**64 == seed


def test_long_seeds_give_normal_noise_of_their_own() -> None:
    clips = torch.stack([torch.randn(20_000, generator=generator(5 + (k << 32))) for k in range(5)])
    assert clips.mean().abs() < 0.02
    assert clips.std() == pytest.approx(1, abs=0.02)
    assert (torch.corrcoef(clips) - torch.eye(5)).abs().max() < 0.05
