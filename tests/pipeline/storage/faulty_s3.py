"""An S3 server on loopback that fails on demand, and helpers for its tests."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
import s3fs
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from pipeline.errors import StorageError

SECRET = "Sw0rdfish-secret-key"


@dataclass
class FaultyS3:
    """An S3 server on loopback that counts requests and fails on demand."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    faults: deque[int] = field(default_factory=deque)
    lost_answers: int = 0
    ignores_conditions: bool = False
    refuses_conditions: bool = False

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        self.requests.append(environ["REQUEST_METHOD"])
        if self.ignores_conditions:  # as rclone and s3rver do
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if self.refuses_conditions and "HTTP_IF_NONE_MATCH" in environ:
            self.faults.append(501)
        if self.lost_answers:
            self.lost_answers -= 1
            list(self.app(environ, lambda *_: None))
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        if not self.faults:
            return self.app(environ, start)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status = self.faults.popleft()
        if status == 0:  # drop the connection
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        code = {
            503: "SlowDown",
            500: "InternalError",
            501: "NotImplemented",
            403: "AccessDenied",
        }.get(status, "Odd")
        body = f"<Error><Code>{code}</Code><Message>told to</Message></Error>".encode()
        start(f"{status} Told", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
        return [body]

    app = DomainDispatcherApplication(create_backend_app)

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1")

    def control(self, path: str, body: str = "") -> None:
        headers = {"Content-Type": "text/plain"}
        url = f"{self.url}/moto-api/{path}"
        request = urllib.request.Request(url, data=body.encode(), headers=headers)
        urllib.request.urlopen(request).close()


@contextlib.contextmanager
def serving() -> Iterator[FaultyS3]:
    """Run a server inside the block."""
    app = FaultyS3()
    http = make_server("127.0.0.1", 0, app, threaded=True)
    app.url = f"http://127.0.0.1:{http.port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield app
    http.shutdown()
    thread.join()


@contextlib.contextmanager
def emptied(server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """The server with one empty bucket, `clips`, and the environment variables to reach it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    use_keys(monkeypatch, "testing", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("pipeline.storage.retries.BACKOFF_S", 0.001)
    server.control("reset")
    server.client("s3").create_bucket(Bucket="clips")
    server.requests.clear()
    yield server
    server.faults.clear()
    server.ignores_conditions = server.refuses_conditions = False
    server.control("reset-auth", "inf")


def use_keys(monkeypatch: pytest.MonkeyPatch, key: str, secret: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    s3fs.S3FileSystem.clear_instance_cache()


def failure(call: Callable[[], object]) -> str:
    """The message of the StorageError that `call` raises, which must be one line."""
    with pytest.raises(StorageError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text
    return text
