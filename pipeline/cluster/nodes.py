"""The nodes of the connected cluster: their names, taking one out of service, losses and gains.

Ray starts a group whose node is lost again where there is room. This module tells the user, because
a run with fewer groups would otherwise only look slow.
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
from pipeline.cluster.ray_compat import actors_of_this_job, drain_node

WATCH_EVERY_S = 5.0
NAMED = 4
"""Most nodes that one message names."""
_ID_CHARS = 8

Node = Mapping[str, Any]
"""One node as `ray.nodes` describes it."""

_logger = logging.getLogger(__name__)


def own_name() -> str:
    """Name of the node of this process in messages and in the ledger."""
    return _name(socket.gethostname(), ray.get_runtime_context().get_node_id())


def ids_of(names: Collection[str]) -> list[str]:
    """Ray's ids of the nodes with these names."""
    short = {name.rpartition(":")[2] for name in names}
    return [node["NodeID"] for node in ray.nodes() if node["NodeID"][:_ID_CHARS] in short]


def others(gpus: float = 0.0) -> list[str]:
    """Names of the other nodes that are alive and can hold work.

    Args:
        gpus: GPUs that they must have; 0 also counts nodes with CPUs alone.
    """
    own = ray.get_runtime_context().get_node_id()
    return [
        _name(node["NodeManagerHostname"], node["NodeID"])
        for node in ray.nodes()
        if node["Alive"]
        and node["NodeID"] != own
        and node["Resources"].get("GPU", 0) >= gpus
        and (node["Resources"].get("CPU") or node["Resources"].get("GPU"))
    ]


def is_alive(actor: str) -> bool:
    """Whether the process of an actor of this job lives, by the actor's id."""
    return any(
        each["ActorID"] == actor and each["State"] == "ALIVE" for each in actors_of_this_job()
    )


def own_gpus() -> float:
    """GPUs that Ray gave to this process."""
    resources: dict[str, Any] = ray.get_runtime_context().get_assigned_resources()
    return float(resources.get("GPU", 0.0))


def retire(reason: str) -> bool:
    """Ask Ray to put nothing new on the node of this process; an autoscaler will replace it.

    Returns:
        Whether another node can take over the work; if there is none, nothing is done.
    """
    context = ray.get_runtime_context()
    if not others():
        return False
    refusal = drain_node(context.get_node_id(), context.gcs_address, reason)
    if refusal:
        _logger.warning("cannot take this node out of service: %s", refusal)
    return True


@contextmanager
def watched(
    groups: Groups,
    say: Callable[[str], None],
    room: Callable[[int], None],
    every_s: float = WATCH_EVERY_S,
) -> Iterator[None]:
    """Report from a thread of its own, inside the block, which nodes a run loses and gains.

    Args:
        groups: Groups of the run.
        say: Prints one line.
        room: Told how many groups the run can have at a time, whenever nodes come or go.
        every_s: Seconds between two looks.
    """
    stop = threading.Event()
    before = alive(ray.nodes())

    def watch() -> None:
        nonlocal before
        while not stop.wait(every_s):
            try:
                now = alive(ray.nodes())
            except ray.exceptions.RayError as error:  # the run will meet and report the same error
                _logger.warning("cannot watch the nodes any more: %s", error)
                return
            if lines := changes(groups, before, now):
                room(min(sum(_room(groups, node) for node in now.values()), groups.most))
            for line in lines:
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
    """The nodes that are alive, by id."""
    return {node["NodeID"]: node for node in nodes if node["Alive"]}


def changes(groups: Groups, before: Mapping[str, Node], now: Mapping[str, Node]) -> list[str]:
    """Messages about lost and joined nodes that have room for a group.

    Args:
        groups: Groups of the run.
        before: Nodes by id at the previous look.
        now: Nodes by id now.
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
