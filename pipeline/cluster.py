"""Where a run executes: the Ray cluster, and how many groups of which resources fit on it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import ray
from ray.data import DataContext

from pipeline.errors import UserError

MIN_LOGICAL_CPUS = 4
"""Ray Data's own tasks hold a CPU each; with fewer, actors and tasks can wait for each other."""

CPUS_PER_RANK = 2
"""CPU cores (and torch threads) of a rank that runs its model on the CPU."""

NO_PROGRESS_S = 6 * 3600
"""A cold 14B model plus a slow clip passes Ray Data's default of 1,800 s without any fault."""


@dataclass(frozen=True, slots=True)
class Groups:
    """How the run fills the cluster.

    Attributes:
        device: `cuda` or `cpu`.
        replicas: Groups side by side.
        num_gpus: GPUs that one group's actor asks of Ray.
        num_cpus: CPUs that one group's actor asks of Ray.
    """

    device: Literal["cuda", "cpu"]
    replicas: int
    num_gpus: int
    num_cpus: int


@contextmanager
def connected() -> Iterator[None]:
    """Join the cluster of `RAY_ADDRESS` (set inside a Ray job), or start one for this run only.

    A private cluster listens on loopback with Ray's token authentication, and ends with the run.
    A caller that has initialised Ray already keeps its own connection.
    """
    if ray.is_initialized():
        _tune()
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
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
            num_cpus=max(MIN_LOGICAL_CPUS, len(os.sched_getaffinity(0))),
            include_dashboard=False,
            logging_level=logging.ERROR,
        )
    try:
        _tune()
        yield
    finally:
        ray.shutdown()


def plan_groups(
    device: Literal["auto", "cpu", "cuda"],
    degree: int,
    replicas: int | Literal["auto"],
    *,
    tasks: int,
) -> Groups:
    """Decide device, resources and number of groups from what the connected cluster has.

    Args:
        device: `auto` takes GPUs if the cluster has any.
        degree: Ranks per group.
        replicas: Groups, or `auto` to fill the cluster as it is now.
        tasks: Tasks of the run; a group without a task would load a model for nothing.

    Raises:
        UserError: The cluster cannot hold one group.
    """
    have = ray.cluster_resources()
    gpus, cpus = int(have.get("GPU", 0)), int(have.get("CPU", 0))
    if device == "cuda" or (device == "auto" and gpus):
        if gpus < degree:
            raise UserError(
                f"parallel.degree {degree} needs {degree} GPUs per group, the cluster has {gpus}: "
                "use a smaller degree, add nodes, or set --device cpu"
            )
        fit = gpus // degree
        # No CPUs: on a node with as many GPUs as CPUs, Ray Data's own tasks would find none left.
        groups = Groups("cuda", min(fit, tasks) if replicas == "auto" else replicas, degree, 0)
    else:
        share = CPUS_PER_RANK * degree
        fit = max(1, (cpus - 1) // share)  # one CPU stays free for Ray Data's own tasks
        groups = Groups("cpu", min(fit, tasks) if replicas == "auto" else replicas, 0, share)
        if cpus <= share:
            raise UserError(
                f"a group needs {share} CPUs and Ray Data one more, the cluster has {cpus}: "
                f"start it with at least {share + 1} CPUs"
            )
    if groups.replicas > fit:
        raise UserError(
            f"replicas {groups.replicas} do not fit: the cluster has room for {fit} groups of "
            f"{degree}; use --replicas {fit} or auto"
        )
    return groups


def _tune() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    # Its plan and progress lines repeat what `pipeline.progress` says better.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
