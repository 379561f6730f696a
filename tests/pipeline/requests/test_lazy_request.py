"""Lazy requests against `build_request`, which they must equal to the byte."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RowRejectedError
from pipeline.models.sizes import SizeRules
from pipeline.prompts.condition_columns import FIRST_IMAGE, ConditionFile
from pipeline.requests.from_row import RequestDefaults, build_request
from pipeline.requests.lazy_request import LazyRequests
from pipeline.requests.sample_request import CacheIdentity
from tests.pipeline.requests.test_intake import DEFAULTS
from tests.property_examples import examples

ODD = RequestDefaults(
    dataclasses.replace(
        DEFAULTS.template,
        negative_prompt='"seed":-1 "\\u0000prompt" \\ 🌆',
        cache=CacheIdentity("paper", '{"epsilon":0.1,"seed":-1}', "f00"),
        adapters=("a@1", '"seed":-1'),
    ),
    seed=7,
    sizes=SizeRules(16, 4),
)
TWO_NETWORKS = dataclasses.replace(
    DEFAULTS,
    template=dataclasses.replace(DEFAULTS.template, guidance_scale_2=3.0),
    sampler_at=lambda width, height: f"Euler/{3.0 if width * height < 1000 else 5.0}",
)
TEXT = st.text(max_size=20) | st.sampled_from(['"seed":-1', "\\u0000prompt", "\0", "\ud800", " "])
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just([1])
ROWS = st.fixed_dictionaries(
    {"prompt": TEXT | ANYTHING},
    optional={
        "negative_prompt": TEXT | st.none(),
        "seed": st.none() | st.integers(-1, 2**63) | st.floats(0, 1e6),
        "width": st.sampled_from([None, 16, 32, 32.0, 33, True, "32"]),
        "num_frames": st.sampled_from([None, 1, 5, 6]),
        "num_inference_steps": st.sampled_from([None, 1, 1.0, 50, 0]),
        "guidance_scale": st.sampled_from([None, 1, 1.0, 5.5, float("nan"), 0.0, -0.0]),
        "guidance_scale_2": st.sampled_from([None, None, 1, 2.5, -1.0, "3"]),
        "fps": ANYTHING,
        "other": ANYTHING,
    },
)


@given(rows=st.lists(ROWS, min_size=1, max_size=8), copies=st.integers(1, 3))
@pytest.mark.parametrize("defaults", [DEFAULTS, ODD, TWO_NETWORKS])
@settings(max_examples=examples(300))
def test_lazy_requests_are_the_requests_of_their_rows(
    defaults: RequestDefaults, rows: list[dict[str, Any]], copies: int
) -> None:
    lazy = LazyRequests(defaults)  # shared by all rows, as in a run: none may affect another
    for row in rows:
        try:
            expected = [build_request(row, defaults, "p:1", copy) for copy in range(copies)]
        except RowRejectedError as error:
            with pytest.raises(RowRejectedError, match=f"^{re.escape(str(error))}$"):
                lazy.of_row(row, copies)
            continue
        found = lazy.of_row(row, copies)
        assert [request.build("p:1") for request in found] == expected
        assert [request.sample_id.hex() for request in found] == [r.sample_id for r in expected]


def test_few_templates_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.requests.lazy_request.MAX_TEMPLATES", 3)
    lazy = LazyRequests(DEFAULTS)
    for number in range(20):
        row = {"prompt": "p", "negative_prompt": f"not {number}"}
        (request,) = lazy.of_row(row, 1)
        assert request.build("k") == build_request(row, DEFAULTS, "k")
        assert len(lazy._templates) <= 3
        assert request.build("k", '{"a":1}').source == '{"a":1}'


@pytest.mark.parametrize("sha", ["0" * 64, "1" * 64])
def test_the_first_image_is_in_the_id_and_decides_the_seed(sha: str) -> None:
    takes = dataclasses.replace(DEFAULTS, conditions=(FIRST_IMAGE,))
    row = {"prompt": "p", "image": (ConditionFile("image", sha, "a.png"),)}
    found = LazyRequests(takes).of_row(row, 2)
    expected = [build_request(row, takes, "k", copy) for copy in range(2)]
    assert [request.build("k") for request in found] == expected
    assert [request.sample_id.hex() for request in found] == [r.sample_id for r in expected]
    assert found[0].seed != build_request({"prompt": "p"}, DEFAULTS, "k").seed
