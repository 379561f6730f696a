"""Fixtures of the end-to-end tests: an S3 server, a Ray cluster, tiny models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from tests.model_fixtures import tiny_model  # noqa: F401 - pytest finds fixtures by name


@pytest.fixture(scope="session")
def s3_env() -> Iterator[dict[str, str]]:
    """Environment of an S3 client that talks to a server of this test session."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()
