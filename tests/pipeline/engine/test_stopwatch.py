"""Timing two methods of a pipeline object, and leaving it as it was."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from pipeline.engine.stopwatch import stopwatch


class Vae:
    def decode(self, value: int) -> int:
        time.sleep(0.02)
        if value < 0:
            raise ValueError("torn")
        return value + 1


class Pipe:
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.vae = Vae()

    def encode_prompt(self, text: str) -> str:
        time.sleep(0.01)
        return text.upper()


def test_it_times_calls_and_is_gone_after_the_block() -> None:
    pipe: Any = Pipe()
    with stopwatch(pipe) as laps:
        assert pipe.encode_prompt("a") == "A"
        assert pipe.vae.decode(1) == 2
        assert pipe.vae.decode(2) == 3
    assert laps.text_s >= 0.01
    assert laps.decode_s >= 0.04
    assert "encode_prompt" not in vars(pipe)
    assert "decode" not in vars(pipe.vae)
    before = (laps.text_s, laps.decode_s)
    pipe.vae.decode(1)
    assert (laps.text_s, laps.decode_s) == before


def test_a_call_that_raises_is_timed_and_somebody_elses_wrapper_stays() -> None:
    pipe: Any = Pipe()
    own = pipe.vae.decode
    pipe.vae.decode = own
    with pytest.raises(ValueError, match="torn"), stopwatch(pipe) as laps:
        pipe.vae.decode(-1)
    assert laps.decode_s >= 0.02
    assert vars(pipe.vae)["decode"] is own


def test_with_offload_it_waits_for_the_device_that_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)
    pipe: Any = Pipe()  # whose weights wait on the CPU
    pipe._execution_device = torch.device("cuda", 0)
    with stopwatch(pipe):
        pipe.vae.decode(1)
    assert waited == [torch.device("cuda", 0)] * 2


def test_a_pipeline_without_these_methods_is_left_alone() -> None:
    with stopwatch(object()) as laps:
        pass
    assert (laps.text_s, laps.decode_s) == (0.0, 0.0)


def test_it_marks_what_takes_long_before_and_after() -> None:
    pipe: Any = Pipe()
    marks: list[str] = []
    with stopwatch(pipe, marks.append):
        pipe.encode_prompt("a")
        with pytest.raises(ValueError, match="torn"):
            pipe.vae.decode(-1)
    assert marks == ["encoding", "encoded", "decoding", "decoded"]
