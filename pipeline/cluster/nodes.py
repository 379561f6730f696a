"""The nodes of the connected cluster: what they are called, which to leave, what becomes of them.

A group whose node is lost is started again where there is room; Ray sees to it. This says so: a run
that has fewer groups than it was given should not look like one that is only slow.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.cluster.capacity import Groups

WATCH_EVERY_S = 5.0
NAMED = 4
"""Of many nodes that come or go at once so many are named."""
_ID_CHARS = 8

Node = Mapping[str, Any]
"""What `ray.nodes` says of one node."""

_logger = logging.getLogger(__name__)


def own_name() -> str:
    """What the node of this process is called in messages and in the ledger."""
    return _name(socket.gethostname(), ray.get_runtime_context().get_node_id())


def ids_of(names: Collection[str]) -> list[str]:
    """Ray's ids of the nodes that go by these names."""
    short = {name.rpartition(":")[2] for name in names}
    return [node["NodeID"] for node in ray.nodes() if node["NodeID"][:_ID_CHARS] in short]


def retire(reason: str) -> bool:
    """Have Ray put nothing new on the node of this process; an autoscaler will replace it.

    Returns:
        Whether another node is there to take its work; without one nothing is done.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    context = ray.get_runtime_context()
    if not any(
        node["Alive"]
        and node["NodeID"] != context.get_node_id()
        and (node["Resources"].get("CPU") or node["Resources"].get("GPU"))
        for node in ray.nodes()
    ):
        return False
    accepted, refusal = GcsClient(address=context.gcs_address).drain_node(
        context.get_node_id(), DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION, reason, 0
    )
    if not accepted:
        _logger.warning("cannot take this node out of service: %s", refusal)
    return True


@contextmanager
def watched(
    groups: Groups, say: Callable[[str], None], every_s: float = WATCH_EVERY_S
) -> Iterator[None]:
    """Say inside the block, from a thread of its own, which nodes a run loses and gains.

    Args:
        groups: Of the run.
        say: Takes one line.
        every_s: Seconds between two looks.
    """
    stop = threading.Event()
    before = alive(ray.nodes())

    def watch() -> None:
        nonlocal before
        while not stop.wait(every_s):
            try:
                now = alive(ray.nodes())
            except ray.exceptions.RayError as error:  # the run will meet the same fault and say so
                _logger.warning("cannot watch the nodes any more: %s", error)
                return
            for line in changes(groups, before, now):
                say(line)
            before = now

    thread = threading.Thread(target=watch, name="node-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(every_s)  # not longer: Ray may not answer


def alive(nodes: Collection[Node]) -> dict[str, Node]:
    """The nodes that live, by id."""
    return {node["NodeID"]: node for node in nodes if node["Alive"]}


def changes(groups: Groups, before: Mapping[str, Node], now: Mapping[str, Node]) -> list[str]:
    """Lines about the nodes with room for a group that have gone or come.

    Args:
        groups: Of the run.
        before: Nodes by id, as they were.
        now: As they are.
    """
    room = sum(_room(groups, node) for node in now.values())
    left = f"there is room for {room} of up to {groups.most} groups now"
    if not room:
        left = "no node has room for a group now, and the run waits for one that has"
    lost = [node for key, node in before.items() if key not in now and _room(groups, node)]
    come = [node for key, node in now.items() if key not in before and _room(groups, node)]
    lines = []
    if lost:
        again = "clips that were under way there are made again on what is left"
        lines.append(f"{_names(lost)} lost: {left}; {again}")
    if come:
        lines.append(f"{_names(come)} joined: {left}")
    return lines


def _room(groups: Groups, node: Node) -> int:
    kind, each = ("GPU", groups.num_gpus) if groups.num_gpus else ("CPU", groups.num_cpus)
    return int(node["Resources"].get(kind, 0)) // each


def _names(nodes: Collection[Node]) -> str:
    names = [_name(node["NodeManagerHostname"], node["NodeID"]) for node in nodes]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"node{'s' if len(names) > 1 else ''} {', '.join(names[:NAMED])}{more}"


def _name(host: str, node_id: str) -> str:
    return f"{host}:{node_id[:_ID_CHARS]}"
