"""Fixtures of the tests of `sencache`: every tiny pipeline in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sencache import remove_sencache
from tests.sencache.support.applied import made
from tests.sencache.support.tiny_pipelines import (
    PIPELINES,
    TinyPipeline,
    tiny_param,
)


@pytest.fixture(params=[tiny_param(tiny, by_network=True) for tiny in PIPELINES])
def tiny(request: pytest.FixtureRequest) -> TinyPipeline:
    """One pipeline of every network; the others are variants."""
    return request.param


@pytest.fixture
def pipe(tiny: TinyPipeline) -> Iterator[Any]:
    """The pipeline, made once for all tests and given back by each without a cache."""
    pipe = made(tiny.name)
    yield pipe
    remove_sencache(pipe)
