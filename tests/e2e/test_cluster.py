"""Runs over several nodes: what they make, and what is left when one of them is lost."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.config.run_config import RunConfig, load_config
from pipeline.dataset.committed import committed
from pipeline.engine.factory import engine_factory
from pipeline.models.resolve import resolve_model
from pipeline.prompts.reader import read_source
from pipeline.requests.defaults import request_defaults
from pipeline.requests.intake import Intake
from pipeline.storage.storage import Storage
from tests.e2e.services import QUICK_HEALTH_CHECKS, REPOSITORY, patient_start

STORE_BYTES = 100 << 20
WAIT_S = 1200


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    """A head for the driver, the ledger and Ray Data's own tasks."""
    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    node |= {"no_monitor": True}  # no test adds nodes by Ray's autoscaler
    with mock.patch.dict(os.environ, QUICK_HEALTH_CHECKS), patient_start():
        made = Cluster()
        made.add_node(wait=False, **node)
        made.wait_for_nodes(WAIT_S)
        yield made
        made.shutdown()


@pytest.fixture
def cluster(head: Cluster) -> Cluster:
    """The head alone; tests add nodes."""
    for node in list(head.worker_nodes):
        head.remove_node(node, allow_graceful=False)
    return head


@pytest.fixture
def two_nodes(head: Cluster) -> Cluster:
    """The head and at least one more node: that of an earlier test, if it left one."""
    if not head.worker_nodes:
        add_node(head, 2)
    return head


def add_node(cluster: Cluster, cpus: int) -> Any:
    node = cluster.add_node(wait=False, num_cpus=cpus, object_store_memory=STORE_BYTES)
    cluster.wait_for_nodes(WAIT_S)
    return node


@functools.cache
def rows_of_part(part: Path) -> list[dict[str, Any]]:
    return pq.read_table(part).to_pylist()


def rows_of(output: Path) -> list[dict[str, Any]]:
    """The rows so far; parts never change, and waiting tests look often."""
    return [row for part in output.glob("data/part-*.parquet") for row in rows_of_part(part)]


def start_driver(
    cluster: Cluster, *arguments: str, said: Path | None = None
) -> subprocess.Popen[bytes]:
    env = os.environ | {"RAY_ADDRESS": cluster.address, "COLUMNS": "200"}
    command = [sys.executable, "-m", *arguments]
    with said.open("wb") if said else contextlib.nullcontext() as output:
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=env, start_new_session=True, stdout=output
        )


def wait_for(condition: Callable[[], bool], driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert driver.poll() is None, "the run ended early"
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.1)


@pytest.mark.slow
def test_groups_grow_with_the_cluster_and_a_lost_node_costs_no_sample(
    cluster: Cluster, tmp_path: Path
) -> None:
    first = add_node(cluster, 2)
    prompts = [f"clip {n}" for n in range(50)]  # more than there will be time for, until
    slow = tmp_path / "slow"
    slow.touch()  # this is gone
    (tmp_path / "p.txt").write_text("\n".join(prompts) + "\n")
    output = tmp_path / "out"
    settings = {
        "prompts": str(tmp_path / "p.txt"),
        "output": str(output),
        "cache": {"policy": "none"},
        "parallel": {"cpus_per_rank": 2},
        "batch_rows": 1,
        "part_rows": 1,
        "contact_sheet": False,
        "report": False,
    }

    def nodes() -> Counter[str]:
        return Counter(row["device_name"] for row in rows_of(output))

    driver = start_driver(cluster, "tests.e2e.engines", json.dumps(settings), "3.0", str(slow))
    try:
        wait_for(lambda: len(nodes()) == 1, driver)
        joined = add_node(cluster, 2)
        wait_for(lambda: nodes()[joined.node_id] >= 3, driver)
        cluster.remove_node(joined, allow_graceful=False)
        slow.unlink()
        assert driver.wait(timeout=WAIT_S) == 0
    finally:
        driver.kill()
    rows = rows_of(output)
    assert sorted(row["caption"] for row in rows) == sorted(prompts)
    assert {row["status"] for row in rows} == {"ok"}
    assert set(nodes()) == {first.node_id, joined.node_id}


@pytest.mark.slow
def test_the_ledger_is_on_the_node_of_the_driver(two_nodes: Cluster, tmp_path: Path) -> None:
    """Where no other node's death reaches it: what it knows of attempts under way is in memory."""
    ray.init(address=two_nodes.address, logging_level="ERROR")
    try:
        assert sum(node["Alive"] for node in ray.nodes()) >= 2
        storage = Storage(str(tmp_path))
        ledgers = [
            RemoteLedger.start(storage, f"r{n}", max_attempts=3, forget=False) for n in range(5)
        ]
        where = [
            ledger._handle.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id())
            for ledger in ledgers
        ]
        assert set(ray.get(where)) == {ray.get_runtime_context().get_node_id()}
    finally:
        ray.shutdown()


@pytest.mark.variant
@pytest.mark.slow
def test_a_fixed_number_of_groups_goes_on_with_those_that_are_left(
    cluster: Cluster, tmp_path: Path
) -> None:
    add_node(cluster, 2)
    lost = add_node(cluster, 2)
    prompts = tmp_path / "p.txt"
    prompts.write_text("".join(f"clip {n}\n" for n in range(60)))
    slow, output, said = tmp_path / "slow", tmp_path / "out", tmp_path / "said"
    slow.touch()
    settings = json.dumps(
        {
            "prompts": str(prompts),
            "output": str(output),
            "cache": {"policy": "none"},
            "replicas": 2,
            "parallel": {"cpus_per_rank": 2},
            "batch_rows": 1,
            "part_rows": 1,
            "contact_sheet": False,
            "report": False,
        }
    )
    driver = start_driver(cluster, "tests.e2e.engines", settings, "0.3", str(slow), said=said)
    try:
        wait_for(lambda: len({row["device_name"] for row in rows_of(output)}) == 2, driver)
        cluster.remove_node(lost, allow_graceful=False)  # and nothing takes its place
        wait_for(lambda: " lost: there is room for 1 of up to 2 groups" in said.read_text(), driver)
        slow.unlink()
        assert driver.wait(timeout=WAIT_S) == 0
        assert sorted(row["status"] for row in rows_of(output)) == ["ok"] * 60
        prompts.write_text(prompts.read_text() + "one more\n")
        driver = start_driver(cluster, "tests.e2e.engines", settings, "0.3", str(slow), said=said)
        assert driver.wait(timeout=WAIT_S) == 0
    finally:
        driver.kill()
    assert "room for 1 of the 2 groups that were asked for" in said.read_text()
    rows = rows_of(output)
    assert len({row["sample_id"] for row in rows}) == len(rows) == 61


@pytest.mark.variant
@pytest.mark.slow
def test_a_run_whose_text_encoder_has_no_place_left_ends_and_goes_on_with_fewer_groups(
    cluster: Cluster, tmp_path: Path
) -> None:
    nodes = [add_node(cluster, 2) for _ in range(3)]
    (tmp_path / "p.txt").write_text("".join(f"clip {n}\n" for n in range(100)))
    slow, output, said = tmp_path / "slow", tmp_path / "out", tmp_path / "said"
    slow.touch()
    settings = {
        "prompts": str(tmp_path / "p.txt"),
        "output": str(output),
        "cache": {"policy": "none"},
        "parallel": {"cpus_per_rank": 2},
        "stages": {"text": "separate", "text_cpus": 2, "text_wait_s": 3.0},
        "batch_rows": 1,
        "part_rows": 1,
        "contact_sheet": False,
        "report": False,
    }

    def start() -> subprocess.Popen[bytes]:
        words = json.dumps(settings), "0.3", str(slow)
        return start_driver(cluster, "tests.e2e.engines", *words, said=said)

    def makers() -> set[str]:
        return {row["device_name"] for row in rows_of(output)}

    driver = start()
    try:
        wait_for(lambda: len(makers()) == 2, driver)
        (of_texts,) = (node for node in nodes if node.node_id not in makers())
        cluster.remove_node(of_texts, allow_graceful=False)  # and nothing takes its place
        assert driver.wait(timeout=WAIT_S) == 2
        assert "room for a text encoder (2 CPUs) beside the groups; what is" in said.read_text()
        made = len(rows_of(output))
        assert 2 <= made < 100
        slow.unlink()
        settings |= {"batch_rows": 10, "part_rows": 100}  # fewer tasks take less time
        driver = start()
        assert driver.wait(timeout=WAIT_S) == 0, said.read_text()
    finally:
        driver.kill()
    rows = rows_of(output)
    assert sorted(row["status"] for row in rows) == ["ok"] * 100
    assert len({row["sample_id"] for row in rows}) == 100
    assert {row["attempts"] for row in rows} == {1}  # nothing was under way when it ended


def ranks_on(node: Any) -> list[int]:
    """Process ids of all ranks of all groups on a node of this machine."""
    raylet = node.all_processes["raylet"][0].process.pid
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdecimal()
        and "pipeline.ranks.rank" in command_of(folder)
        and raylet in ancestors_of(int(folder.name))
    ]


def command_of(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def ancestors_of(pid: int) -> list[int]:
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(pid)
    return found


def alone(config: RunConfig) -> dict[str, str]:
    """Ids and decisions of the same clips by one plain process: no Ray, no groups."""
    model = resolve_model(config.model, config.model_path)
    storage = Storage(config.output)
    rows = read_source(config.prompts, config.prompt_column)
    before = committed(storage, retry_failed=False)
    intake = Intake(rows, request_defaults(config, model), before)
    requests = list(intake)
    clips = engine_factory(config, model, device="cpu", threads=1)().generate(requests)
    return {
        request.sample_id: clip.cache["decisions"]
        for request, clip in zip(requests, clips, strict=True)
    }


@pytest.mark.variant
@pytest.mark.slow
def test_groups_on_two_nodes_make_the_dataset_of_one_process_whatever_dies(
    cluster: Cluster, tmp_path: Path
) -> None:
    colours = ("red", "green", "blue", "white")
    prompts = [f"a {c} circle moving {way}" for c in colours for way in ("left", "up")]
    (tmp_path / "p.txt").write_text("\n".join(prompts) + "\n")
    output = tmp_path / "out"
    flags = ["--prompts", str(tmp_path / "p.txt"), "--output", str(output), "--device", "cpu"]
    flags += ["--cache.epsilon", "0.7", "--sampling.num-inference-steps", "6"]
    flags += ["--batch-rows", "1", "--part-rows", "1", "--parallel.degree", "2"]
    expected = alone(load_config([*flags, "--parallel.degree", "1"]))
    assert len(set(expected.values())) > 1  # samples decide for themselves
    nodes = [add_node(cluster, cpus) for cpus in (3, 2)]
    driver = start_driver(cluster, "jobs.generate", *flags)
    try:
        wait_for(lambda: len(rows_of(output)) >= 1, driver)
        assert [len(ranks_on(node)) for node in nodes] == [2, 2]  # a group on each
        os.kill(ranks_on(nodes[0])[-1], signal.SIGKILL)
        wait_for(lambda: len(rows_of(output)) >= 3, driver)
        cluster.remove_node(nodes[1], allow_graceful=False)
        assert driver.wait(timeout=WAIT_S) == 0
    finally:
        driver.kill()
    rows = rows_of(output)
    assert len(rows) == len(prompts)
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["group_size"] for row in rows} == {2}
    assert {row["sample_id"]: row["cache"]["decisions"] for row in rows} == expected
