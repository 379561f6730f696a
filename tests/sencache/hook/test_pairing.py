"""Whether a call holds both branches of guidance."""

from __future__ import annotations

import pytest
import torch

from sencache.hook.call import is_paired


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_repeated_clips_are_paired(clips: int) -> None:
    latents = torch.randn(clips, 4, 2, 3, 3)
    assert is_paired(torch.cat([latents, latents]))


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_different_clips_are_not(rows: int) -> None:
    assert not is_paired(torch.randn(rows, 4, 2, 3, 3))


def test_one_different_bit_is_enough() -> None:
    latents = torch.randn(2, 4)
    other = latents.clone()
    other[1, 3] = torch.nextafter(other[1, 3], torch.tensor(9.0))
    assert not is_paired(torch.cat([latents, other]))


def test_three_equal_rows_and_none_are_not_paired() -> None:
    assert not is_paired(torch.ones(3, 4))
    assert not is_paired(torch.ones(0, 4))
