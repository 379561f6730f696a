"""One Ray cluster for each process of a test session, and a connection to it.

Starting a cluster costs as much as two small runs, so tests that do not end their cluster share it.
A cluster that idles costs a few per cent of a core, so it ends before the first file without such
tests; `tests/conftest.py` puts them in a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

_running: list[Cluster] = []


def _head() -> str:
    """Address of the cluster, which has one node with four logical CPUs."""
    # Imported here: most test sessions start no Ray.
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray.cluster_utils import Cluster

    from tests.e2e.services import OBJECT_STORE_BYTES, START_TIMEOUT_S, patient_start

    if not _running:
        ensure_token_if_auth_enabled(None, create_token_if_missing=True)  # as `ray.init` does
        cluster = Cluster()
        try:
            with patient_start():
                cluster.add_node(
                    wait=False,
                    num_cpus=4,
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    include_log_monitor=False,
                    no_monitor=True,  # it watches what an autoscaler could add
                )
                cluster.wait_for_nodes(START_TIMEOUT_S)
        except BaseException:
            cluster.shutdown()
            raise
        _running.append(cluster)
    return str(_running[0].address)


def end_cluster() -> None:
    """End the cluster, if there is one."""
    while _running:
        _running.pop().shutdown()


@pytest.fixture(scope="module")
def local_ray() -> Iterator[str]:
    """A connection of this process, which runs keep; yields the address for other drivers."""
    import ray

    address = _head()
    ray.init(address=address, logging_level="ERROR")
    yield address
    ray.shutdown()
