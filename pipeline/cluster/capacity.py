"""How many groups fit on the connected cluster, and which resources each of them takes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import ray

from pipeline.errors import UserError
from pipeline.wording import counted

RANK_BYTES = 1 << 30
"""Memory of a rank that computes the smallest model on CPUs; a larger model needs fewer groups."""


@dataclass(frozen=True, slots=True)
class Groups:
    """How the run fills the cluster.

    Attributes:
        device: `cuda` or `cpu`.
        replicas: Groups side by side from the start.
        most: Groups that the run may have once nodes have joined.
        num_gpus: GPUs that the actor of one group requests from Ray.
        num_cpus: CPUs that the actor of one group requests from Ray.
        remark: One line on devices that stay idle or groups without room, "" if there are none.
    """

    device: Literal["cuda", "cpu"]
    replicas: int
    most: int
    num_gpus: int
    num_cpus: int
    remark: str = field(default="", compare=False)


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
    own: Mapping[str, float] | None = None,
) -> Groups:
    """Decide device, resources and number of groups from what the cluster has.

    A group lies within one node, so the groups that fit are counted node by node.

    Args:
        device: `auto` takes GPUs if the cluster has any.
        degree: Ranks per group.
        replicas: Groups, or `auto` to fill the cluster with all nodes that join later. A fixed
            number may exceed the room at first if the cluster grows: it may have lost a node, or
            start nodes on demand.
        tasks: Tasks of the run; a group without a task would load a model for nothing.
        grows: Whether nodes can join during the run.
        other_cpus: CPUs that the run's other actors take.
        other_gpus: GPUs that the run's other actors take.
        avoid: Ids of nodes that must get no group.
        cpus_per_rank: CPUs of a rank that computes on CPUs.
        cores: Real cores, if Ray counts more CPUs than there are; `auto` fills these. 0 if Ray's
            count is right.
        own: What this machine has, where it is the whole cluster and Ray has not started yet; None
            asks the connected cluster.

    Raises:
        UserError: The cluster cannot hold one group, or not as many as asked for and cannot grow.
    """
    nodes = [own] if own is not None else _nodes(avoid)
    where = "the cluster" if own is None else "this machine"
    gpus = free = [int(node.get("GPU", 0)) for node in nodes]
    kind: Literal["cuda", "cpu"]
    if device == "cuda" or (device == "auto" and any(gpus)):
        free = _without(gpus, math.ceil(other_gpus), degree)
        fit = sum(each // degree for each in free)
        if not fit:
            if device == "cuda" and not any(gpus):
                raise UserError(
                    f"--device cuda: {where} has no GPU that Ray finds (`nvidia-smi` lists those "
                    "that there are, CUDA_VISIBLE_DEVICES can hide them): set --device cpu, or run "
                    "on a cluster with GPUs"
                )
            beside = f" beside {math.ceil(other_gpus)} for text encoding" if other_gpus else ""
            raise UserError(
                f"--parallel.degree {degree} needs {counted(degree, 'GPU')} on one node{beside}, "
                f"{_largest(gpus, 'GPU', where)}: use a smaller degree, add nodes, or set "
                "--device cpu"
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
                f"a group needs {counted(share, 'CPU')} on one node and the rest of the run "
                f"{beside_cpus} more, {_largest(cpus, 'CPU', where)}: start one with at least "
                f"{share + beside_cpus} CPUs"
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
                f"--replicas {count} do not fit: {where} has room for {counted(fit, 'group')} of "
                f"{degree}; use --replicas {fit} or auto"
            )
        remark = (
            f"the cluster has room for {fit} of {counted(count, 'group')} that were asked for: "
            "the run begins with what there is, and takes up nodes that join"
        )
        count = fit
    return Groups(kind, count, most, num_gpus, num_cpus, remark)


def _without(gpus: list[int], taken: int, degree: int) -> list[int]:
    """GPUs per node that remain for groups if other actors take those that cost fewest groups."""
    left = sorted(gpus)
    for _ in range(min(taken, sum(left))):
        some = [index for index, count in enumerate(left) if count]
        left[max(some, key=lambda index: left[index] % degree or -left[index])] -= 1
    return left


def _nodes(avoid: Collection[str]) -> list[Mapping[str, float]]:
    """Resources of the connected cluster's nodes that may get groups."""
    return [
        node["Resources"]
        for node in ray.nodes()
        if node["Alive"] and not (avoid and node["NodeID"] in avoid)
    ]


def _largest(counts: list[int], name: str, where: str) -> str:
    total, most = sum(counts), max(counts, default=0)
    most_on_one = f", at most {most} on a node" if len(counts) > 1 and total else ""
    return f"{where} has {counted(total, name)}{most_on_one}"


def _idle(gpus: list[int], degree: int) -> str:
    """One line about GPUs that no group can use, "" if there are none."""
    idle = sum(each % degree for each in gpus)
    if not idle:
        return ""
    odd = [each for each in sorted(gpus) if each % degree]
    numbers = f"{', '.join(map(str, odd))} GPU{'s' * (odd != [1])}"
    return (
        f"{idle} of {counted(sum(gpus), 'GPU')} {'stays' if idle == 1 else 'stay'} idle: "
        f"{'a node' if len(odd) == 1 else 'nodes'} with {numbers} cannot be divided by "
        f"--parallel.degree {degree}, and a group does not span nodes"
    )
