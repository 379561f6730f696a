"""Settings of every test."""

import os
from collections.abc import Iterator

import pytest
import s3fs
from hypothesis import settings

# A loaded machine is not a failing test: time limits belong to benchmarks.
settings.register_profile("default", deadline=None)
settings.load_profile("default")

# Tests talk to nothing but loopback.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(autouse=True)
def _own_connections() -> Iterator[None]:
    """s3fs shares connections by options, not by the credentials that they were made with."""
    yield
    s3fs.S3FileSystem.clear_instance_cache()
