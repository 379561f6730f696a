"""Everything that the pipeline uses of Ray's private modules; no other module imports them.

Written against Ray 2.60. `pyproject.toml` allows that minor version only, because private names
move without notice. After an upgrade run `tests/pipeline/cluster` and `tests/e2e`; each function
says what to look for in Ray's source if its name has moved.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa
import ray
from ray._private import auto_init_hook, state, worker
from ray._private.resource_and_label_spec import ResourceAndLabelSpec
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.data._internal.execution.execution_callback import ExecutionCallback as ExecutionCallback
from ray.data._internal.execution.interfaces.ref_bundle import BlockEntry, RefBundle
from ray.data._internal.execution.operators.input_data_buffer import InputDataBuffer
from ray.data.block import BlockMetadata
from ray.util.debug import log_once

RAY_DATA_THREADS = ("iter_threaded", "StreamingExecutor")
"""What the names of Ray Data's threads that ask Ray for blocks begin with.

If they change, look in `ray/data/_internal/execution/streaming_executor.py` and
`ray/data/_internal/block_batching/iter_batches.py`.
"""


def submission_id(environment: Mapping[str, str] = os.environ) -> str:
    """The submission id of the Ray job whose driver this process is, "" outside of a job.

    Characters other than letters, digits, `_` and `-` become `-`. Ray's public API needs `ray.init`
    first; the job agent passes the id in an environment variable. If that moves, look for
    `job_submission_id` in `ray/dashboard/modules/job`.
    """
    try:
        job = json.loads(environment.get(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}"))
        return re.sub(r"[^A-Za-z0-9_-]+", "-", job["metadata"]["job_submission_id"])[:100]
    except (ValueError, KeyError, TypeError):
        return ""


def own_gpus() -> int:
    """The GPUs of this machine that a Ray cluster started here would have.

    If this moves, look for `_get_current_node_accelerator` in
    `ray/_private/resource_and_label_spec.py`.
    """
    kind, count = ResourceAndLabelSpec._get_current_node_accelerator(None, {})
    return count if kind is not None and kind.get_resource_name() == "GPU" else 0


def stop_auto_connect() -> None:
    """Keep Ray's API from connecting by itself in this process from now on.

    Otherwise a thread of Ray Data that calls the API after `ray.shutdown` starts another cluster
    and hangs on it. If the switch moves, look for `auto_init_ray` in `ray/_private`.
    """
    auto_init_hook.enable_auto_connect = False


_OWN_KILL = re.compile(
    r"Task MapWorker\(.*\)\.submit failed\. There are (?:infinite|\d+) retries remaining, so the "
    r"task will be retried\. Error: The actor is dead because it was killed by `ray\.kill`\.\s*"
)


@contextmanager
def own_kills_counted(stopped: Callable[[], bool]) -> Iterator[list[str]]:
    """Collect, in place of printing, what Ray says of tasks whose actors this process has ended.

    Ray Data ends its actors by `ray.kill` when its program stops, and Ray then says that their
    tasks will be retried, which they are not. Left out are only such lines, word for word, and only
    once the program was told to stop: a death of another kind has another text.

    Ray's thread for errors looks the function that prints up each time. If it moves, look for
    `listen_error_messages` in `ray/_private/worker.py`.

    Args:
        stopped: Whether the program was told to stop.

    Yields:
        The lines that were not printed; it grows.
    """
    printed, found = worker.print_to_stdstream, list[str]()

    def print_others(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        lines = list(data["lines"])
        if data["pid"] == "raylet" and stopped():
            found.extend(line for line in lines if _OWN_KILL.fullmatch(line))
            lines = [line for line in lines if not _OWN_KILL.fullmatch(line)]
        if lines:
            printed({**data, "lines": lines}, ignore_prefix)

    worker.print_to_stdstream = print_others
    try:
        yield found
    finally:
        worker.print_to_stdstream = printed


def drain_node(node_id: str, gcs_address: str, reason: str) -> str:
    """Ask Ray to put nothing new on a node.

    The `ray drain-node` command does the same; see its implementation in `ray/scripts/scripts.py`
    if this call moves.

    Returns:
        Why Ray refuses, "" if it accepts.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    accepted, refusal = GcsClient(address=gcs_address).drain_node(
        node_id, DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION, reason, 0
    )
    return "" if accepted else str(refusal) or "no reason given"


def actors_of_this_job() -> Iterable[Mapping[str, Any]]:
    """This job's actors as Ray's control store describes them.

    The public `ray.util.state.list_actors` needs the dashboard, which a private cluster does not
    have. If this moves, look for `actors` in `ray/_private/state.py`.
    """
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    actors: dict[str, Mapping[str, Any]] = state.actors(job_id=job)
    return actors.values()


def has_active_tasks(executor: Any, name: str) -> bool:
    """Whether the operator of a class has tasks under way.

    If this moves, look for `_topology` in `ray/data/_internal/execution/streaming_executor.py`.

    Args:
        executor: The `StreamingExecutor` that Ray Data hands to an `ExecutionCallback`.
        name: Name of the class that the operator maps.
    """
    return any(
        name in operator.name and operator.num_active_tasks() for operator in executor._topology
    )


def rows_given(executor: Any, name: str) -> int:
    """Rows that the operator of a function has given so far.

    If this moves, look for `rows_task_outputs_generated` in
    `ray/data/_internal/execution/interfaces/op_runtime_metrics.py`.

    Args:
        executor: The `StreamingExecutor` that Ray Data hands to an `ExecutionCallback`.
        name: Name of the function that the operator maps.
    """
    return sum(
        operator.metrics.rows_task_outputs_generated
        for operator in executor._topology
        if name in operator.name
    )


def with_own_context(dataset: ray.data.Dataset) -> ray.data.Dataset:
    """The same lazy Dataset with settings and callbacks of its own.

    Ray Data hands one context on to all Datasets that come from one, so what is set on a result
    would hold for its source and for every other result of that source too. If this moves, look for
    `Dataset.copy` in `ray/data/dataset.py`.
    """
    return ray.data.Dataset.copy(dataset, _deep_copy=True)


def executes(executor: Any, argument: str) -> bool:
    """Whether some operator of an execution maps a function that was given an argument.

    A Dataset's context goes with what comes from it, also where its blocks are held already and
    nothing of it is executed. If this moves, look for `set_logical_operators` in
    `ray/data/_internal/planner/planner.py`, and for `fn_args` in
    `ray/data/_internal/logical/operators/map_operator.py`.

    Args:
        executor: The `StreamingExecutor` that Ray Data hands to an `ExecutionCallback`.
        argument: One of the positional arguments of the function.
    """
    return any(
        argument == given
        for operator in executor._topology
        for logical in operator._logical_operators
        for given in getattr(logical, "fn_args", None) or ()
        if isinstance(given, str)
    )


class BlockFeed(Protocol):
    """Where the later blocks of a Dataset come from."""

    def next(self, wait_s: float = 0.0) -> pa.Table | None:
        """The next block; None where none is there yet, or none will come."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether all blocks are taken."""
        ...


class FedExecution(ExecutionCallback):
    """Adds blocks to the input of a Dataset while it executes, as its last stage takes rows in.

    Ray Data has no lazy source on the driver: its public ones read in tasks, whose rows are lost
    with their process. Blocks that the driver owns live as long as it does. If this breaks, look at
    `InputDataBuffer` (it hands out `_input_data` from `_input_data_index` on, and counts as
    complete when it is marked finished) and at where `StreamingExecutor` calls its callbacks.
    """

    def __init__(self, feed: BlockFeed, rows_ahead: int, rows_kept: int) -> None:
        """Prepare.

        Args:
            feed: Has the blocks after those that the Dataset was made of.
            rows_ahead: Rows that may wait for the last stage before blocks are held back.
            rows_kept: Rows whose block is kept after the last stage has taken them in: Ray needs it
                to make them once more if their node is lost.
        """
        self._feed, self._ahead, self._kept = feed, rows_ahead, rows_kept
        self._ends: list[int] = []
        self._dropped = 0

    def before_execution_starts(self, executor: Any) -> None:
        """Keep the input open."""
        self._input = next(op for op in executor._topology if isinstance(op, InputDataBuffer))
        self._last = list(executor._topology)[-1]
        self._input._is_execution_marked_finished = self._input._inputs_complete = False
        # Else the executor says at its first step that no input is to come.
        executor._topology[self._input].inputs_done_called = True
        for bundle in self._input._input_data:
            self._count(bundle.num_rows() or 0)

    def on_execution_step(self, executor: Any) -> None:
        """Add blocks if there is room for them, and close the input after the last one."""
        taken = self._last.metrics.rows_inputs_of_submitted_tasks
        while self._dropped < len(self._ends) and self._ends[self._dropped] < taken - self._kept:
            self._input._input_data[self._dropped] = None
            self._dropped += 1
        if self._input._inputs_complete:
            return
        is_idle = not any(op.num_active_tasks() for op in executor._topology)
        while self._ends[-1] - taken < self._ahead:
            table = self._feed.next(0.1 if is_idle else 0.0)  # the loop would spin
            if table is None:
                break
            self._add(table)
            is_idle = False
        if self._feed.is_over:
            self._input._inputs_complete = True
            self._input.mark_execution_finished()

    def _add(self, table: pa.Table) -> None:
        metadata = BlockMetadata(table.num_rows, table.nbytes, None, None)
        entry = BlockEntry(ray.put(table), metadata)
        bundle = RefBundle((entry,), owns_blocks=False, schema=table.schema)
        self._input._input_data.append(bundle)
        self._input._metrics.on_input_received(bundle)
        self._count(table.num_rows)

    def _count(self, rows: int) -> None:
        self._ends.append((self._ends[-1] if self._ends else 0) + rows)


def await_ray_data_threads(before: Collection[threading.Thread], seconds: float) -> None:
    """Wait for Ray Data's threads of an execution that has ended, which Ray Data does not do.

    A thread that still asks Ray for a block when Ray shuts down ends the process at once, with exit
    code 1 and without a message.

    Args:
        before: Threads from before the execution.
        seconds: Longest wait: a thread may be asking a node that is gone.
    """
    until = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread not in before and thread.name.startswith(RAY_DATA_THREADS):
            thread.join(max(0.0, until - time.monotonic()))


def tell_nothing_of_missing_bars() -> None:
    """Keep Ray Data from warning that its progress bars are off, for whoever turns them off."""
    log_once("ray_data_progress_manager_disabled")
