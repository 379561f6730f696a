from __future__ import annotations

import threading
from typing import Any

import pytest
import ray

from pipeline.cluster import nodes
from pipeline.cluster.capacity import Groups
from pipeline.cluster.nodes import changes, ids_of, watched

GPUS = Groups("cuda", replicas=3, most=3, num_gpus=2, num_cpus=0)
CPUS = Groups("cpu", replicas=2, most=9, num_gpus=0, num_cpus=2)


def node(key: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {
        "NodeID": key * 20,
        "NodeManagerHostname": f"host-{key}",
        "Alive": alive,
        "Resources": resources,
    }


def fleet(*there: dict[str, Any]) -> dict[str, Any]:
    return {each["NodeID"]: each for each in there}


HEAD = node("h", CPU=1.0)


def test_nothing_is_said_of_nodes_that_stay_or_could_hold_no_group() -> None:
    all_of_them = fleet(HEAD, node("a", GPU=4.0))
    assert changes(GPUS, all_of_them, all_of_them) == []
    assert changes(GPUS, all_of_them, fleet(node("a", GPU=4.0))) == []
    assert changes(GPUS, fleet(HEAD), fleet(HEAD, node("b", GPU=1.0, CPU=64.0))) == []


def test_lost_and_joining_nodes_are_named_with_the_room_that_is_left() -> None:
    before = fleet(HEAD, node("a", GPU=5.0), node("b", GPU=2.0))
    assert changes(GPUS, before, fleet(HEAD, node("a", GPU=5.0))) == [
        "node host-b:bbbbbbbb lost: there is room for 2 of up to 3 groups now; clips that were "
        "under way there are made again on what is left"
    ]
    assert changes(CPUS, fleet(HEAD), fleet(HEAD, node("c", CPU=4.0), node("d", CPU=2.0))) == [
        "nodes host-c:cccccccc, host-d:dddddddd joined: there is room for 3 of up to 9 groups now"
    ]


def test_of_many_nodes_some_are_named() -> None:
    many = fleet(*(node(key, CPU=2.0) for key in "abcdefg"))
    (line,) = changes(CPUS, fleet(HEAD), many)
    assert line.startswith("nodes host-a:aaaaaaaa, ")
    assert "host-d:dddddddd and 3 more joined: there is room for 7" in line


def test_a_run_that_can_only_wait_says_so() -> None:
    (line,) = changes(CPUS, fleet(HEAD, node("a", CPU=2.0)), fleet(HEAD))
    assert "no node has room for a group now, and the run waits for one that has" in line


def test_a_watch_looks_again_and_again_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [node("a", CPU=2.0), node("b", CPU=2.0)]
    monkeypatch.setattr(ray, "nodes", lambda: list(there))
    said: list[str] = []
    room: list[int] = []
    seen = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        seen.set()

    with watched(CPUS, say, room.append, every_s=0.01):
        there[1] = node("b", alive=False, CPU=2.0)
        assert seen.wait(300)
        seen.clear()
        there.append(node("c", CPU=2.0))
        assert seen.wait(300)
    assert [line.split(":")[0] for line in said] == ["node host-b", "node host-c"]
    assert room == [1, 2]
    there.clear()
    assert len(said) == 2


def test_a_node_goes_by_the_same_name_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [node("a"), node("b", alive=False), node("c")])
    names = [nodes._name("host-a", "a" * 20), nodes._name("somewhere", "b" * 20)]
    assert ids_of(names) == ["a" * 20, "b" * 20]
