"""What the end-to-end tests share: a Ray cluster of several nodes, Prometheus, small helpers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import yaml

REPOSITORY = Path(__file__).parents[2]
RUNTIME_ENV = REPOSITORY / "infra" / "runtime-env.yaml"
SUBMIT_TIMEOUT_S = 500
NODE_STARTS = 3
"""Times that a worker node is started."""

START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 30
OBJECT_STORE_BYTES = 100 << 20
QUICK_HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
}
"""A dead raylet is noticed after two seconds, not after fifteen."""


def submit_command(ray: str, dashboard: str, runtime_env: str, words: Sequence[str]) -> list[str]:
    """`ray job submit` as the README says it, with further words, up to the entry point."""
    command = [ray, "job", "submit", "--address", dashboard, "--working-dir", "."]
    return [*command, "--runtime-env", runtime_env, *words, "--"]


@dataclass
class RayCluster:
    """A cluster that this test session started, on loopback.

    Attributes:
        dashboard: Where jobs are submitted.
        env: Environment of every Ray command that talks to it; holds its token.
        metrics: Addresses at which its nodes serve their series.
        agent: Port of the agent of one worker node.
    """

    dashboard: str
    env: dict[str, str]
    metrics: list[str]
    agent: int
    _runtime_env: Path = field(repr=False)

    def submit(
        self, entrypoint: str, job_env: Mapping[str, str], *words: str
    ) -> subprocess.CompletedProcess[str]:
        """Submit a job as the README says, with some variables and flags more."""
        runtime_env = yaml.safe_load(RUNTIME_ENV.read_text())
        runtime_env["env_vars"] |= job_env
        self._runtime_env.write_text(yaml.safe_dump(runtime_env))
        command = submit_command(tool("ray"), self.dashboard, str(self._runtime_env), words)
        return subprocess.run(
            [*command, *entrypoint.split()],
            cwd=REPOSITORY,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=SUBMIT_TIMEOUT_S,
        )

    def stop(self, submission_id: str) -> subprocess.CompletedProcess[str]:
        """`ray job stop`, which waits until the job has ended."""
        return subprocess.run(
            [tool("ray"), "job", "stop", submission_id],
            env=self.env | {"RAY_ADDRESS": self.dashboard},
            capture_output=True,
            text=True,
            timeout=SUBMIT_TIMEOUT_S,
        )

    def status(self, submission_id: str) -> str:
        """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
        return str(self._ask(f"/api/jobs/{submission_id}")["status"])

    def logs(self, submission_id: str) -> str:
        """What a job has printed."""
        return str(self._ask(f"/api/jobs/{submission_id}/logs")["logs"])

    def alive(self) -> int:
        """Nodes that the head holds to be alive."""
        nodes = self._ask("/nodes?view=summary")["data"]["summary"]
        return sum(each["raylet"].get("state") == "ALIVE" for each in nodes)

    def await_nodes(self, number: int, last: subprocess.Popen[bytes], log: Path) -> None:
        """Wait until so many nodes are alive.

        Raises:
            RuntimeError: The last one ended, or took too long.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and last.poll() is None:
            if self.alive() >= number:
                return
            time.sleep(0.5)
        raise RuntimeError(
            f"{self.alive()} of {number} nodes are alive:\n{log.read_text()[-4000:]}"
        )

    def _ask(self, path: str) -> Any:
        request = urllib.request.Request(self.dashboard + path)
        request.add_header("Authorization", f"Bearer {self.env['RAY_AUTH_TOKEN']}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextlib.contextmanager
def ray_nodes(cpus: Sequence[int], token: str, metrics_s: int = 10) -> Iterator[RayCluster]:
    """Start one node per number of CPUs, the first one the head, and end them by their ids.

    Args:
        cpus: Logical CPUs of each node.
        token: For Ray's token authentication.
        metrics_s: How often every process reports its series; each time costs CPU in all of them.
    """
    temp = Path(tempfile.mkdtemp(prefix="ray-"))  # short: it becomes part of unix socket names
    env = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(temp),
        "RAY_metrics_report_interval_ms": str(1000 * metrics_s),
        "RAY_raylet_start_wait_time_s": "200",  # a loaded machine is not a failing node
        # So long an ending node waits for its actors to leave; the detached ones of Ray Data stay.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        # A job's `python` is the cluster's: the one of this environment.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    env.pop("RAY_ADDRESS", None)
    nodes: list[subprocess.Popen[bytes]] = []
    port, dashboard, metrics = free_port(), free_port(), []
    head = f"http://127.0.0.1:{dashboard}"
    try:
        for number, count in enumerate(cpus):
            command = [tool("ray"), "start", "--block", f"--num-cpus={count}"]
            command += [
                "--node-ip-address=127.0.0.1",
                f"--object-store-memory={OBJECT_STORE_BYTES}",
            ]
            if number:
                # Nodes of one host that shared a folder would unpack a job into each other's.
                command += [f"--address=127.0.0.1:{port}", f"--temp-dir={temp}/{number}"]
            else:
                command += ["--head", f"--port={port}", f"--dashboard-port={dashboard}"]
                command += ["--dashboard-host=127.0.0.1", f"--temp-dir={temp}"]
                command.append("--no-monitor")  # nothing here could add nodes
                command.append(f"--ray-client-server-port={free_port()}")
            log = temp / f"node-{number}.log"
            for left in reversed(range(NODE_STARTS if number else 1)):
                metrics[number:], agent = [f"127.0.0.1:{free_port()}"], free_port()
                ports = [f"--metrics-export-port={metrics[-1].rpartition(':')[2]}"]
                ports.append(f"--dashboard-agent-listen-port={agent}")
                ports.append(f"--dashboard-agent-grpc-port={free_port()}")
                ports.append(f"--runtime-env-agent-port={free_port()}")
                nodes.append(start([*command, *ports], log, env))
                cluster = RayCluster(head, env, metrics, agent, temp / "runtime-env.yaml")
                try:
                    if not number:
                        wait_for(f"{head}/api/version", nodes[-1], log, token)
                    wait_for(f"http://{metrics[-1]}/metrics", nodes[-1], log)
                    cluster.await_nodes(number + 1, nodes[-1], log)
                    break
                except RuntimeError:  # on a loaded machine Ray gives a node 30 seconds
                    end(nodes.pop())
                    if not left:
                        raise
        yield cluster
    finally:
        for node in reversed(nodes):
            end(node)
        shutil.rmtree(temp, ignore_errors=True)


@contextlib.contextmanager
def prometheus(targets: Sequence[str], folder: Path, binary: str) -> Iterator[str]:
    """A Prometheus that reads some addresses every second; yields its own address."""
    config = yaml.safe_load((REPOSITORY / "infra/monitoring/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (scrape,) = config["scrape_configs"]
    scrape.pop("file_sd_configs")
    scrape["static_configs"] = [{"targets": list(targets)}]
    config["rule_files"] = [str(REPOSITORY / "infra/monitoring/alerts.yaml")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [binary, f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
    log = folder / "prometheus.log"
    server = start(command, log, dict(os.environ))
    try:
        wait_for(f"http://{address}/-/ready", server, log)
        yield f"http://{address}"
    finally:
        end(server)


def query(address: str, expression: str) -> list[tuple[dict[str, str], float]]:
    """Evaluate an expression now; its series with their labels."""
    words = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{address}/api/v1/query?{words}", timeout=60) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return [(each["metric"], float(each["value"][1])) for each in found]


def start(command: list[str], log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command, env=env, stdout=output, stderr=output, start_new_session=True, cwd=REPOSITORY
        )


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, token: str = "") -> None:
    """Wait until something answers.

    Raises:
        RuntimeError: The process ended, or took too long.
    """
    request = urllib.request.Request(url)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(request, timeout=10).close()
            return
        time.sleep(0.5)
    raise RuntimeError(f"nothing answers at {url}:\n{log.read_text()[-4000:]}")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started in a session of its own, and all of that session."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


_given: set[int] = set()


def free_port() -> int:
    """A port that nobody has, nor gets before it is used.

    The kernel gives none of these away by itself, and Ray's workers take those below 20000.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as server, contextlib.suppress(OSError):
            server.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def _raylet_lives() -> bool:
    """Whether the node of this process can still come; a raylet ends if its agents are slow."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in psutil.Process().children(recursive=True):
            if each.name() == "raylet" and each.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


@contextlib.contextmanager
def patient_start() -> Iterator[None]:
    """Let a node of this process take long to start: Ray gives it 30 seconds, which is a constant.

    Ray's `Node` asks for its own entry until that time is over; here a question takes longer.
    """
    from ray._private import services

    ask = services.get_node

    def patient(*arguments: Any) -> Any:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return ask(*arguments)
            except RuntimeError:  # not there yet
                if time.monotonic() > deadline or not _raylet_lives():
                    raise
                time.sleep(0.1)

    wait = {"RAY_raylet_start_wait_time_s": str(START_TIMEOUT_S)}  # for the agents of the node
    with mock.patch.object(services, "get_node", patient), mock.patch.dict(os.environ, wait):
        yield


def tool(name: str) -> str:
    """Path of a console script of this environment."""
    return str(Path(sys.executable).with_name(name))
