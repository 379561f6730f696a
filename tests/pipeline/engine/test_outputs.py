"""Frames that are no clip are refused, and others are rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.engine.outputs import BadFramesError, to_uint8
from tests.pipeline.engine.loaded import EngineOf, MakeRequest, Resolve

WAN = "wan2.1-t2v-1.3b"


def test_nan_frames_are_never_a_clip(
    engine_of: EngineOf, request_for: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, model = engine_of(WAN)
    decode = engine._pipe.vae.decode

    def poisoned(*args: Any, **kwargs: Any) -> Any:
        (video,) = decode(*args, **kwargs)
        video[0, 0, 0, 0, 0] = torch.nan
        return (video,)

    monkeypatch.setattr(engine._pipe.vae, "decode", poisoned)
    with pytest.raises(BadFramesError, match="NaN or infinity"):
        engine.generate([request_for(model)])


def test_frames_are_rounded_not_cut(request_for: MakeRequest, tiny_resolved: Resolve) -> None:
    request = request_for(tiny_resolved(WAN), width=16, height=16, num_frames=1)
    levels = torch.linspace(0, 1, 256).reshape(1, 1, 1, 16, 16).expand(1, 1, 3, 16, 16)
    (frames,) = to_uint8(levels + 0.4 / 255, request)
    assert np.array_equal(frames[0, :, :, 0].ravel(), np.arange(256))


def test_a_clip_of_another_size_is_an_error(
    request_for: MakeRequest, tiny_resolved: Resolve
) -> None:
    with pytest.raises(BadFramesError, match=r"\(5, 3, 64, 64\), not \(9, 3, 64, 64\)"):
        to_uint8(torch.zeros(1, 5, 3, 64, 64), request_for(tiny_resolved(WAN)))
