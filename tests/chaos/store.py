"""The S3 server of the trials, in a process of its own, and what the checks read from it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3

from tests.chaos.cluster import wait_until
from tests.chaos.proxy import FaultProxy
from tests.chaos.s3_server import ACCESS_LOG, FULL, LAX
from tests.e2e.services import REPOSITORY, free_port

BUCKET = "chaos"
START_S = 300.0


class Store:
    """A journaled S3 server on a fixed port, and the proxy by which the pipeline reaches it."""

    def __init__(self, folder: Path) -> None:
        """Start it with an empty bucket."""
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.proxy = FaultProxy(self.port)
        self.env = {
            "AWS_ENDPOINT_URL": self.proxy.start(),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._s3 = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.start()
        self._s3.create_bucket(Bucket=BUCKET)

    def start(self) -> None:
        """Start the server, with everything that it ever acknowledged."""
        command = [sys.executable, "-m", "tests.chaos.s3_server", str(self.port), str(self.folder)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=REPOSITORY, stdout=log, stderr=log, env=os.environ | self.env
            )
        wait_until(self._answers, START_S, "the S3 server")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Have every put refused for want of space."""
        with self._flag(FULL):
            yield

    @contextlib.contextmanager
    def lax(self) -> Iterator[None]:
        """Have the conditions of puts ignored."""
        with self._flag(LAX):
            yield

    @contextlib.contextmanager
    def _flag(self, name: str) -> Iterator[None]:
        flag = self.folder / name
        flag.touch()
        try:
            yield
        finally:
            flag.unlink()

    def requests(self, prefix: str) -> list[str]:
        """What was asked of a prefix so far, `METHOD path`, in order; listings included."""
        lines = (self.folder / ACCESS_LOG).read_text().splitlines()
        return [line for line in lines if f"/{prefix}/" in line or f"prefix={prefix}%2F" in line]

    def read(self, key: str) -> bytes:
        """One object."""
        return bytes(self._s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def keys(self, prefix: str) -> list[str]:
        """Sorted."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/moto-api/", timeout=10).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Store]:
    """A store for the time of the block."""
    store = Store(folder)
    try:
        yield store
    finally:
        store.kill()
        store.proxy.stop()
