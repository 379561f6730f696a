"""The connection to a Ray cluster: join one or start a private one, and wait for its first GPUs."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray.autoscaler.sdk import request_resources
from ray.data import DataContext

from pipeline.cluster.ray_compat import own_gpus, own_kills_counted, stop_auto_connect
from pipeline.errors import UserError, message_of
from pipeline.interrupt import was_stopped
from pipeline.wording import counted

MIN_LOGICAL_CPUS = 4
"""Ray Data's own tasks hold a CPU each; with fewer, actors and tasks can wait for each other."""

TIMED_OUT = "timed out during startup"
"""What Ray 2.60 says when a part of a node did not start in time."""

POLL_S = 5.0

NO_PROGRESS_S = 6 * 3600
"""Ray Data's default is 1,800 s; loading a 14B model and making a slow clip can take longer."""

GROW_FROM = 0.75
"""Share of the actors' task slots that must be taken before the pool grows. With Ray Data's default
of 1.75, tasks would first queue in front of every actor and be tied to it."""


@contextmanager
def connected() -> Iterator[bool]:
    """Join the cluster of `RAY_ADDRESS` (set inside a Ray job), or start one for this run only.

    A private cluster has Ray's token authentication, and ends with the run. Ray listens on every
    interface.
    A caller that has initialised Ray already keeps its own connection.

    Yields:
        Whether nodes can join the cluster during the run; they cannot join a private one.

    Raises:
        UserError: There is no cluster at `RAY_ADDRESS`, or Ray cannot start on this machine.
    """
    if ray.is_initialized():
        _configure_ray_data()
        yield True
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray starts workers at niceness 15, behind everything else on the node. An engine that waits
    # for a core holds up its group with all devices. The raylet reads this when it starts.
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
        _start_private()
    with own_kills_counted(was_stopped) as left_out:
        try:
            _configure_ray_data()
            yield bool(os.environ.get("RAY_ADDRESS"))
        finally:
            stop_auto_connect()
            ray.shutdown()
    if left_out:
        lines = counted(len(left_out), "harmless line")
        sys.stderr.write(
            f"not shown: {lines} of Ray (tasks end with the groups that were stopped)\n"
        )


def _start_private() -> None:
    """Start a cluster for this process; a second time if Ray gave up waiting for itself.

    Ray gives the parts of a node half a minute to start, which is too short on a busy machine.

    Raises:
        UserError: Ray cannot start: no room for its files or objects, a path that is too long for
            its sockets, a port that is taken, or a machine too slow for its time limits.
    """
    for last in (False, True):
        try:
            ray.init(
                address="local",
                num_cpus=_private_cpus(),
                include_dashboard=False,
                logging_level=logging.ERROR,
            )
            return
        except Exception as error:  # of many types, plain `Exception` among them (Ray 2.60)
            ray.shutdown()  # the processes that it has started
            if not last and TIMED_OUT in str(error):
                sys.stderr.write("Ray took too long to start; starting it once more\n")
                continue
            raise UserError(
                f"Ray cannot start on this machine: {type(error).__name__}: {message_of(error)}; "
                "its logs are in the folder ray of /tmp, or of RAY_TMPDIR where that is set"
            ) from error


def private_node() -> dict[str, float] | None:
    """What the only node of the cluster that `connected` would start has, before it starts.

    Returns:
        CPUs and GPUs under Ray's names; None where a cluster would be joined: only it knows its
        nodes.
    """
    if ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        return None
    return {"CPU": float(_private_cpus()), "GPU": float(own_gpus())}


def check_gpus(share: float) -> None:
    """Refuse `--gpus` before Ray starts where this machine has none.

    Args:
        share: GPUs that each process holds.

    Raises:
        UserError: It is negative, or more than this machine has and no cluster is joined. Ray would
            wait for ever.
    """
    if not 0 <= share < float("inf"):
        raise UserError(f"--gpus {share:g}: should be 0 or more")
    own = private_node()
    if own is not None and share > own["GPU"]:
        there = counted(int(own["GPU"]), "GPU") if own["GPU"] else "no GPU"
        raise UserError(
            f"--gpus {share:g}: this machine has {there}; leave it out to compute on CPUs, or set "
            "RAY_ADDRESS to join a cluster"
        )


def _private_cpus() -> int:
    """CPUs of a private cluster, as Ray counts them.

    One more than the cores: Ray Data's own tasks need little, groups take the rest.
    """
    return max(MIN_LOGICAL_CPUS, own_cores() + 1)


def own_cores() -> int:
    """Cores that this process may use; a private cluster has these, whatever Ray counts."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS binds no process to cores


def await_gpus(
    degree: int,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Ask an autoscaling cluster for the GPUs of one group, and wait until a node has them.

    A cluster that scales to zero has no GPU when a run begins; once it has a node, the actors
    themselves make it grow. Also returns when the time is over: `plan_groups` then says what is
    missing.

    Args:
        degree: GPUs that one group needs on a node.
        seconds: Longest wait; 0 neither asks nor waits.
        clock: Monotonic seconds.
        sleep: Waits some seconds.
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
        request_resources(bundles=[])  # otherwise the autoscaler would keep that node for ever


def _configure_ray_data() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    context.autoscaling_config.actor_pool_util_upscaling_threshold = GROW_FROM
    context.memory_usage_poll_interval_s = None  # costs a thread per task; rows record peak memory
    # Its plan and progress lines repeat what `pipeline.monitoring.progress` shows.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
