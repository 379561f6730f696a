"""Where a run executes: the Ray cluster, and how many groups of which resources fit on it."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import ray
from ray._private import auto_init_hook
from ray.autoscaler.sdk import request_resources
from ray.data import DataContext

from pipeline.errors import UserError

MIN_LOGICAL_CPUS = 4
"""Ray Data's own tasks hold a CPU each; with fewer, actors and tasks can wait for each other."""

RANK_BYTES = 1 << 30
"""Memory of a rank that computes the smallest model on CPUs; a larger one wants fewer groups."""

POLL_S = 5.0

NO_PROGRESS_S = 6 * 3600
"""A cold 14B model plus a slow clip passes Ray Data's default of 1,800 s without any fault."""

GROW_FROM = 0.75
"""Share of the actors' places that must be taken before the pool grows; Ray Data's own 1.75 waits
for tasks to queue in front of every actor, where they would be tied to it."""


@dataclass(frozen=True, slots=True)
class Groups:
    """How the run fills the cluster.

    Attributes:
        device: `cuda` or `cpu`.
        replicas: Groups side by side, from the start.
        most: Groups that there may be when nodes have joined.
        num_gpus: GPUs that one group's actor asks of Ray.
        num_cpus: CPUs that one group's actor asks of Ray.
        remark: One line on devices that stay idle or groups that find no place, "" without.
    """

    device: Literal["cuda", "cpu"]
    replicas: int
    most: int
    num_gpus: int
    num_cpus: int
    remark: str = field(default="", compare=False)


@contextmanager
def connected() -> Iterator[bool]:
    """Join the cluster of `RAY_ADDRESS` (set inside a Ray job), or start one for this run only.

    Yields whether nodes can join it while the run goes on: not if it is our own.

    A private cluster listens on loopback with Ray's token authentication, and ends with the run.
    A caller that has initialised Ray already keeps its own connection.
    """
    if ray.is_initialized():
        _tune()
        yield True
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray starts workers at niceness 15, behind everything else on the node; an engine that waits
    # for a core holds its group up, devices included. Read by the raylet when it starts.
    os.environ.setdefault("RAY_worker_niceness", "0")
    if os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"RAY_ADDRESS {os.environ['RAY_ADDRESS']}: no Ray cluster to join there "
                f"({str(error).splitlines()[0]}); unset it to run on this machine alone, or submit "
                "with `ray job submit --address`"
            ) from error
    else:
        ray.init(
            address="local",
            # One more than there are: Ray Data's own tasks want little, and groups all the rest.
            num_cpus=max(MIN_LOGICAL_CPUS, own_cores() + 1),
            include_dashboard=False,
            logging_level=logging.ERROR,
        )
    try:
        _tune()
        yield bool(os.environ.get("RAY_ADDRESS"))
    finally:
        # Ray's API connects by itself where it is not connected. A thread of Ray Data that asks
        # something while an interrupted run ends would so start another cluster, and hang on it.
        auto_init_hook.enable_auto_connect = False
        ray.shutdown()


def own_cores() -> int:
    """Cores of this machine that this process may use: a private cluster's, whatever Ray counts."""
    return len(os.sched_getaffinity(0))


def await_gpus(
    degree: int,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Ask an autoscaling cluster for the GPUs of one group, and wait until a node has them.

    A cluster that scales to zero has none when a run begins; from the first node on its actors ask
    for themselves. Returns when the time is over as well: `plan_groups` says what is missing.

    Args:
        degree: GPUs that one group needs on a node.
        seconds: Longest wait; 0 does not ask either.
        clock: Monotonic seconds.
        sleep: Waits.
    """
    until = clock() + seconds
    asked = False
    while clock() < until and not any(
        node["Alive"] and node["Resources"].get("GPU", 0) >= degree for node in ray.nodes()
    ):
        if not asked:
            request_resources(bundles=[{"GPU": degree}])
            asked = True
        sleep(POLL_S)
    if asked:
        request_resources(bundles=[])  # or the autoscaler would keep that node for ever


def plan_groups(
    device: Literal["auto", "cpu", "cuda"],
    degree: int,
    replicas: int | Literal["auto"],
    *,
    tasks: int,
    grows: bool = False,
    other_cpus: int = 0,
    other_gpus: float = 0.0,
    avoid: Collection[str] = (),
    cpus_per_rank: int = 1,
    cores: int = 0,
) -> Groups:
    """Decide device, resources and number of groups from what the connected cluster has.

    A group lies within one node, so what counts is how many fit on each.

    Args:
        device: `auto` takes GPUs if the cluster has any.
        degree: Ranks per group.
        replicas: Groups, or `auto` to fill the cluster as it is now, and what joins it later. A
            cluster that grows may have fewer at first: it lost a node, or starts them on demand.
        tasks: Tasks of the run; a group without a task would load a model for nothing.
        grows: Whether nodes can join while the run goes on.
        other_cpus: CPUs that the run's other actors take.
        other_gpus: GPUs that they take.
        avoid: Ids of nodes that no group may be on.
        cpus_per_rank: CPUs of a rank that computes on them.
        cores: Those behind all CPUs that Ray counts, where it counts more than there are; 0: it
            does not. `auto` fills these.

    Raises:
        UserError: The cluster cannot hold one group, or not as many as asked for and cannot grow.
    """
    nodes = [
        node["Resources"]
        for node in ray.nodes()
        if node["Alive"] and not (avoid and node["NodeID"] in avoid)
    ]
    gpus = free = [int(node.get("GPU", 0)) for node in nodes]
    kind: Literal["cuda", "cpu"]
    if device == "cuda" or (device == "auto" and any(gpus)):
        free = _without(gpus, math.ceil(other_gpus), degree)
        fit = sum(each // degree for each in free)
        if not fit:
            beside = f" beside {math.ceil(other_gpus)} for text encoding" if other_gpus else ""
            raise UserError(
                f"parallel.degree {degree} needs {degree} GPUs on one node{beside}, "
                f"{_largest(gpus, 'GPU')}: use a smaller degree, add nodes, or set --device cpu"
            )
        # No CPUs: on a node with as many GPUs as CPUs, Ray Data's own tasks would find none left.
        kind, num_gpus, num_cpus = "cuda", degree, 0
    else:
        cpus = [int(node.get("CPU", 0)) for node in nodes]
        share = cpus_per_rank * degree
        fit = sum(each // share for each in cpus)
        beside_cpus = 1 + other_cpus  # Ray Data's own tasks need one too
        fit = min(fit, (sum(cpus) - beside_cpus) // share)
        if fit < 1:
            raise UserError(
                f"a group needs {share} CPUs on one node and the rest of the run {beside_cpus} "
                f"more, {_largest(cpus, 'CPU')}: start one with at least {share + beside_cpus} CPUs"
            )
        kind, num_gpus, num_cpus = "cpu", 0, share
        if replicas == "auto":
            need = RANK_BYTES * degree
            roomy = sum(int(node.get("memory", need * fit) // need) for node in nodes)
            fit = max(1, min(fit, cores // share if cores else fit, roomy))
    count = min(fit, tasks) if replicas == "auto" else replicas
    most = max(count, tasks) if replicas == "auto" and grows else count
    remark = _idle(free, degree) if kind == "cuda" and count == fit else ""
    if count > fit:
        if not grows:
            raise UserError(
                f"replicas {count} do not fit: the cluster has room for {fit} groups of "
                f"{degree}; use --replicas {fit} or auto"
            )
        remark = (
            f"the cluster has room for {fit} of the {count} groups that were asked for: the run "
            "begins with what there is, and takes up nodes that join"
        )
        count = fit
    return Groups(kind, count, most, num_gpus, num_cpus, remark)


def _without(gpus: list[int], taken: int, degree: int) -> list[int]:
    """GPUs per node that are left for groups, if others take those that cost the fewest groups."""
    left = sorted(gpus)
    for _ in range(min(taken, sum(left))):
        some = [index for index, count in enumerate(left) if count]
        left[max(some, key=lambda index: left[index] % degree or -left[index])] -= 1
    return left


def _largest(counts: list[int], name: str) -> str:
    total, most = sum(counts), max(counts, default=0)
    return f"the cluster has {total} {name}s" + (f", at most {most} on a node" if total else "")


def _idle(gpus: list[int], degree: int) -> str:
    """What a person should know of GPUs that no group can use."""
    idle = sum(each % degree for each in gpus)
    if not idle:
        return ""
    odd = ", ".join(str(each) for each in sorted(gpus) if each % degree)
    return (
        f"{idle} of {sum(gpus)} GPUs stay idle: nodes with {odd} GPUs do not divide by "
        f"--parallel.degree {degree}, and a group does not span nodes"
    )


def _tune() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    context.autoscaling_config.actor_pool_util_upscaling_threshold = GROW_FROM
    context.memory_usage_poll_interval_s = None  # costs each task a thread; rows tell memory
    # Its plan and progress lines repeat what `pipeline.monitoring.progress` says better.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
