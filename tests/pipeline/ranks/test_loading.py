"""What the ranks of a node read of a mirror, counted at its server."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from pipeline.models.weights import CACHE_ENV, MANIFEST, mirror_digests, revision_of
from pipeline.ranks.group import RankGroup
from pipeline.ranks.processes import GroupSpec
from pipeline.storage.storage import Storage
from tests.pipeline.ranks import group_workers


class CountingS3:
    """A loopback S3 server that knows how many bytes of each path it has sent."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        for chunk in self._app(environ, start):
            self.sent[environ["PATH_INFO"]] += len(chunk)
            yield chunk

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingS3]:
    counting = CountingS3()
    for name, value in {
        "AWS_ENDPOINT_URL": counting.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        CACHE_ENV: str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    yield counting
    counting.close()


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_of_a_node_download_a_model_once(size: int, server: CountingS3) -> None:
    client = boto3.client("s3", endpoint_url=server.url, region_name="us-east-1")
    client.create_bucket(Bucket=f"models-{size}")
    mirror = Storage(f"s3://models-{size}/wan")
    files = {"model_index.json": b"{}", "transformer/model.safetensors": bytes(3 << 20)}
    for key, content in files.items():
        mirror.put_bytes(key, content)
    sums = [f"{hashlib.sha256(content).hexdigest()}  {key}\n" for key, content in files.items()]
    mirror.put_bytes(MANIFEST, "".join(sums).encode())
    revision = revision_of(mirror_digests(mirror))
    server.sent.clear()
    for _ in range(2):  # the second group finds the first one's copy
        with RankGroup(group_workers.copying, GroupSpec(size)) as group:
            copy = Path(group.ask((mirror.uri, revision)))
    assert {key: (copy / key).read_bytes() for key in files} == files
    assert {key: server.sent[f"/models-{size}/wan/{key}"] for key in files} == {
        key: len(content) for key, content in files.items()
    }
