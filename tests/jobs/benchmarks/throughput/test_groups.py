"""The groups benchmark: what it says of layouts, and that groups really run side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from jobs.benchmarks.throughput import groups
from jobs.benchmarks.throughput.groups import (
    GroupLayout,
    _advice,
    _rows,
    _run,
)
from pipeline.dataset.schema import NO_CACHE
from pipeline.engine.protocol import Clip
from pipeline.errors import UserError
from pipeline.requests.sample_request import SampleRequest

BASE = SampleRequest("p", "", "demo", "rev", "S/3", 4, 4.0, 32, 16, 5, 8, 32, 0)


class Still:
    """Grey frames at once."""

    device_name = "still"
    group_size = 1

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        return [Clip(np.zeros((1, 2, 2, 3), np.uint8), NO_CACHE, 7) for _ in requests]

    def close(self) -> None:
        return


def refuse() -> Still:
    raise UserError("3 does not divide the 8 attention heads")


def test_every_group_makes_its_share_after_a_common_start() -> None:
    shares = [[[BASE, BASE]] * 4, [[BASE, BASE]] * 4]
    layout = _run(partial(Still), "cpu", 1, shares)
    assert (layout.groups, layout.degree) == (2, 1)
    assert layout.clips == 12  # three calls of two in each; the first warmed up
    assert layout.peak_memory_bytes == 7
    assert layout.clips_per_s > 0


def test_a_layout_that_the_model_refuses_says_why() -> None:
    with pytest.raises(UserError, match="does not divide the 8 attention heads"):
        _run(refuse, "cpu", 1, [[[BASE]], [[BASE]]])


def test_the_advice_follows_the_numbers() -> None:
    layouts = [
        GroupLayout(4, 1, 8, clips_per_s=2.0, latency_s=2.0),
        GroupLayout(2, 2, 8, clips_per_s=1.5, latency_s=1.3),
        GroupLayout(2, 2, 8, clips_per_s=1.8, latency_s=1.1, cfg=2),
        GroupLayout(1, 4, refused="4 does not divide 6 heads"),
    ]
    assert [row[0] for row in _rows(layouts)] == ["4 x 1", "2 x 2", "2 x 2, cfg 2", "1 x 4"]
    assert [row[3] for row in _rows(layouts)] == ["1.00", "0.75", "0.90", ""]
    assert _advice(layouts) == (
        "1 x 4: 4 does not divide 6 heads\n"
        "For throughput: --parallel.degree 1 --replicas 4. "
        "For a clip as soon as possible: --parallel.degree 2 --parallel.cfg 2 --replicas 2."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", "1"], "from 2 devices on"),
        (["--devices", "4096"], "this process may use"),
        (["--devices", "2", "--calls", "1"], "at least one for each of 2"),
    ],
)
def test_options_that_compare_nothing_are_refused(options: list[str], message: str) -> None:
    parser = argparse.ArgumentParser()
    groups.add_arguments(parser)
    with pytest.raises(UserError, match=message):
        groups.main(parser.parse_args(options), None)  # type: ignore[arg-type]
