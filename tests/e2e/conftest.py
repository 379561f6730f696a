"""Real services for the end-to-end tests: a Ray cluster with its job server, and an S3 server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.e2e.services import REPOSITORY, RayCluster, free_port, tool

START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 30


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    temp = tempfile.mkdtemp(prefix="ray-")  # short: it becomes part of unix socket names
    ports = {
        name: free_port()
        for name in (
            "port",
            "dashboard-port",
            "dashboard-agent-listen-port",
            "dashboard-agent-grpc-port",
            "runtime-env-agent-port",
            "metrics-export-port",
            "ray-client-server-port",
        )
    }
    env = os.environ | {
        "RAY_AUTH_MODE": "disabled",  # loopback only, and both sides must agree
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": temp,
        # A job's `python` is the cluster's: the one of this environment.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    env.pop("RAY_ADDRESS", None)
    command = [tool("ray"), "start", "--head", "--block", "--num-cpus=6"]
    command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--temp-dir={temp}"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    with (Path(temp) / "head.log").open("wb") as log:
        head = subprocess.Popen(
            command, env=env, stdout=log, stderr=log, start_new_session=True, cwd=REPOSITORY
        )
    dashboard = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        _wait_for(dashboard + "/api/version", head, Path(temp) / "head.log")
        yield RayCluster(dashboard, env)
    finally:
        head.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        shutil.rmtree(temp, ignore_errors=True)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(url, timeout=2).close()
            return
        time.sleep(0.5)
    raise RuntimeError(f"the Ray head did not come up:\n{log.read_text()[-4000:]}")


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
