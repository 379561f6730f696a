"""Settings of every test."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import s3fs
from hypothesis import settings

if TYPE_CHECKING:
    from tests.pipeline.storage.faulty_s3 import FaultyS3

# A loaded machine is not a failing test: time limits belong to benchmarks.
settings.register_profile("default", deadline=None)
settings.load_profile("default")

# Tests talk to nothing but loopback.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold the slow tests, or one process would be left alone with them.

    pytest-xdist would end with them, as those of fewest tests, but for `--no-loadscope-reorder`.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def _own_connections() -> Iterator[None]:
    """s3fs shares connections by options, not by the credentials that they were made with."""
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[FaultyS3]:
    from tests.pipeline.storage.faulty_s3 import serving  # here: not every test session needs moto

    with serving() as server:
        yield server


@pytest.fixture
def s3(s3_server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """An S3 server with one empty bucket, `clips`, that can be told to fail."""
    from tests.pipeline.storage.faulty_s3 import emptied

    with emptied(s3_server, monkeypatch) as server:
        yield server
