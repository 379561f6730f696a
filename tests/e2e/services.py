"""What the end-to-end tests share: the cluster they submit to, and small helpers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SUBMIT_TIMEOUT_S = 500
NOT_UPLOADED = [".venv", ".git", "out", "tests", ".mypy_cache", ".ruff_cache", ".pytest_cache"]


@dataclass(frozen=True)
class RayCluster:
    """A cluster that this test session started, on loopback."""

    dashboard: str
    env: dict[str, str]

    def submit(self, entrypoint: str, job_env: Mapping[str, str]) -> str:
        """Run a job to its end and return what it printed.

        Raises:
            AssertionError: The job did not succeed.
        """
        runtime_env = {"env_vars": dict(job_env), "excludes": NOT_UPLOADED}
        command = [tool("ray"), "job", "submit", "--address", self.dashboard]
        command += ["--working-dir", ".", "--runtime-env-json", json.dumps(runtime_env), "--"]
        done = subprocess.run(
            [*command, *entrypoint.split()],
            cwd=REPOSITORY,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=SUBMIT_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def tool(name: str) -> str:
    """Path of a console script of this environment."""
    return str(Path(sys.executable).with_name(name))
