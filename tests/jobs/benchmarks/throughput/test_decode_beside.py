"""The benchmark of decoding beside the next clip, end to end on the embedded model."""

from __future__ import annotations

import argparse
import io

import pytest
from rich.console import Console

from jobs.benchmarks.throughput import decode_beside
from pipeline.errors import UserError


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    decode_beside.add_arguments(parser)
    return parser.parse_args(given)


def test_there_must_be_a_clip() -> None:
    with pytest.raises(UserError, match="--clips 0: must be at least 1"):
        decode_beside.main(options("--clips", "0"), Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("evaluations", "decode", "clips", "inside", "beside"),
    [
        (4, 2, 1, 2 / 6, 2 / 6),  # nothing to decode beside
        (4, 2, 2, 4 / 12, 2 / 10),
        (4, 2, 1000, 2 / 6, 2 / 4002),
        (2, 6, 2, 12 / 16, 10 / 14),  # the decoder is what takes long
        (2, 6, 1000, 6 / 8, 1 - 2000 / 6002),
    ],
)
def test_a_simulation_by_hand(
    evaluations: int, decode: int, clips: int, inside: float, beside: float
) -> None:
    found = [
        decode_beside.simulated_idle(evaluations, decode, clips, beside=each)
        for each in (False, True)
    ]
    assert found == [pytest.approx(inside), pytest.approx(beside)]


@pytest.mark.slow
@pytest.mark.variant
def test_the_networks_wait_less_where_the_decode_is_beside() -> None:
    # A decode of 40 steps: the wait for it is far longer than what a loaded machine adds.
    found = decode_beside.main(
        options("--clips", "2", "--decode-steps", "40"), Console(file=io.StringIO())
    )
    assert [(row["evaluations"], row["decode"]) for row in found["rows"]] == [
        (evaluations, decode) for evaluations in (50, 17, 4) for decode in ("inline", "beside")
    ]
    assert found["rows"][1]["idle"] < found["rows"][0]["idle"]
    assert found["decode_steps"] > 20
    assert all(0 < row["simulated"] < 1 for row in found["rows"])
