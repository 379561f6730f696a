"""A Ray cluster of several raylets on loopback, each of which can be killed and replaced."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import psutil
from ray.cluster_utils import Cluster as RayCluster

from tests.e2e.services import QUICK_HEALTH_CHECKS, REPOSITORY, patient_start

TOKEN = "CHAOS_TOKEN"
OBJECT_STORE_BYTES = 80_000_000
START_S = 300.0


class Cluster:
    """A head that takes drivers and small tasks, and workers with room for one group each."""

    def __init__(self, workers: int) -> None:
        """Start it."""
        self._ray = RayCluster()
        self.address: str = self._add(1).address
        self._workers: list[Any] = [self._add(2) for _ in range(workers)]

    def node_id(self, index: int) -> str:
        """What Ray calls a node."""
        return str(self._workers[index].node_id)

    def kill_worker(self, index: int, *, gently: bool) -> None:
        """End a node's raylet by SIGKILL, or by SIGTERM as a spot notice does.

        One that was taken out of service has ended already.
        """
        for name, process in self._workers[index].live_processes():
            if name == "raylet":
                process.send_signal(signal.SIGTERM if gently else signal.SIGKILL)
                process.wait()

    def replace_worker(self, index: int) -> None:
        """Start a new node in the place of a dead one."""
        self._ray.remove_node(self._workers[index], allow_graceful=False)
        self._workers[index] = self._add(2)

    def stop(self) -> None:
        """End all of it."""
        self._ray.shutdown()

    def _add(self, cpus: int) -> Any:
        node = self._ray.add_node(
            wait=False,
            num_cpus=cpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
        )
        # One after the other: a driver connects to the node that came first.
        self._ray.wait_for_nodes(START_S)
        return node


@contextlib.contextmanager
def running(workers: int, env: dict[str, str]) -> Iterator[Cluster]:
    """A cluster for the time of the block; `env` goes to all of its processes."""
    marked = {
        **env,
        **QUICK_HEALTH_CHECKS,
        TOKEN: secrets.token_hex(8),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    with mock.patch.dict(os.environ, marked), patient_start():
        cluster = Cluster(workers)
        try:
            yield cluster
        finally:
            cluster.stop()
            end_all(processes())


def group_processes() -> list[psutil.Process]:
    """Ranks of this process's clusters."""
    return [p for p in processes() if p.ppid() != os.getpid() and _is_of_a_group(p)]


def processes() -> list[psutil.Process]:
    """All processes that carry this process's token, itself apart.

    Not Ray's own workers: they rename themselves, which overwrites their environment.
    """
    token, found = os.environ[TOKEN], []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(TOKEN) == token:
                found.append(process)
    return found


def _is_of_a_group(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "pipeline.ranks.rank" in process.cmdline()
    return False


def end_all(doomed: list[psutil.Process]) -> None:
    """SIGKILL."""
    for process in doomed:
        with contextlib.suppress(psutil.Error):
            process.kill()


def wait_until(condition: Any, timeout_s: float, what: str) -> None:
    """Poll until it holds.

    Raises:
        AssertionError: It never did.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.02)
