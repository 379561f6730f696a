"""The first frames of a clip are those of the whole one, from fewer latents."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.engine.call_shape import first_frames, latent_frames
from pipeline.engine.outputs import BadFramesError, to_uint8
from pipeline.models.sizes import SizeRules
from tests.pipeline.candidates.test_drafts import REQUEST


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_latent_frames_are_the_fewest_that_hold_the_frames(start: int, stride: int) -> None:
    rules = SizeRules(multiple=16, frame_stride=stride, frame_start=start)
    # What so many latent frames decode to.
    held = [(start or stride) + stride * further for further in range(10)]
    for count in range(1, held[-1] + 1):
        assert latent_frames(count, rules) == 1 + sum(each < count for each in held)


class Whole:
    """Stands for a decoder that is not causal."""

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return z


@pytest.mark.slow
def test_a_causal_decoder_gets_the_latents_of_the_first_frames_alone() -> None:
    from diffusers import AutoencoderKLWan

    from pipeline.models.demo import WEIGHTS_DIR

    rules = SizeRules(multiple=16, frame_stride=4)
    vae: Any = AutoencoderKLWan.from_pretrained(WEIGHTS_DIR / "vae")
    z = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pipe = SimpleNamespace(vae=vae)
    with torch.no_grad():
        (whole,) = vae.decode(z, return_dict=False)
        for count, decoded in ((0, 9), (1, 1), (3, 5), (5, 5), (9, 9), (99, 9)):
            with first_frames(pipe, count, rules):
                (some,) = pipe.vae.decode(z, return_dict=False)
            assert some.shape[2] == decoded
            assert torch.equal(some, whole[:, :, :decoded])
    assert "decode" not in vars(vae)


def test_other_decoders_get_all_latents_and_frames_beyond_are_left_out() -> None:
    z = torch.rand(2, 17, 3, 64, 64)
    pipe = SimpleNamespace(vae=Whole())
    with first_frames(pipe, 5, SizeRules(multiple=16, frame_stride=4)):
        assert pipe.vae.decode(z) is z
    draft = dataclasses.replace(REQUEST, first_frames=5)
    clips, whole = to_uint8(z, draft), to_uint8(z, REQUEST)
    assert [clip.shape for clip in clips] == [(5, 64, 64, 3)] * 2
    assert all(np.array_equal(*pair) for pair in zip(clips, (w[:5] for w in whole), strict=True))
    with pytest.raises(BadFramesError):
        to_uint8(z[:, :4], draft)
