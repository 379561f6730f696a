"""Fixtures: one Ray cluster for each process of a test session, and a connection to it.

Starting a cluster costs as much as two small runs, so whatever does not end its cluster shares it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_head() -> Iterator[str]:
    """Address of a cluster of one node with four logical CPUs; drivers may come and go."""
    # Imported here: most test sessions start no Ray.
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray.cluster_utils import Cluster

    from tests.e2e.services import OBJECT_STORE_BYTES, START_TIMEOUT_S, patient_start

    ensure_token_if_auth_enabled(None, create_token_if_missing=True)  # as `ray.init` does
    with patient_start():
        cluster = Cluster()
        cluster.add_node(
            wait=False,
            num_cpus=4,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
        )
        cluster.wait_for_nodes(START_TIMEOUT_S)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def local_ray(ray_head: str) -> Iterator[str]:
    """A connection of this process, which runs keep; yields the address for other drivers."""
    import ray

    ray.init(address=ray_head, logging_level="ERROR")
    yield ray_head
    ray.shutdown()
