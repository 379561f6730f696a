"""Ends a run whose text encoders find no place: their node was lost, and the groups hold the rest.

Ray Data would wait for ever, with every group idle. Which group should give way is not decided
here: the same command plans anew, with room for the encoders. Knows neither texts nor storage.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray._private import state
from ray.data._internal.execution.execution_callback import ExecutionCallback

from pipeline.cluster.group_actor import GroupActor
from pipeline.cluster.text_stage import TextActor
from pipeline.errors import UserError
from pipeline.monitoring.progress import duration

if TYPE_CHECKING:
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

LOOK_EVERY_S = 2.0

_logger = logging.getLogger(__name__)


class TextWatch(ExecutionCallback):
    """Looks after the encoders of one pass of Ray Data, which calls it at each of its steps."""

    def __init__(
        self, needs: str, wait_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin to watch.

        Args:
            needs: What an encoder asks of a node, in words.
            wait_s: Longest time without a place for any encoder.
            clock: Monotonic seconds.
        """
        self._needs, self._wait_s, self._clock = needs, wait_s, clock
        self._looked = self._placed = clock()
        self._said = False

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """Look, if it is time to.

        Raises:
            UserError: No encoder has had a place for too long, and no group has work left.
        """
        now = self._clock()
        if now < self._looked + LOOK_EVERY_S:
            return
        self._looked = now
        job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
        if not all_wait(state.actors(job_id=job).values(), ray.nodes()):
            self._placed, self._said = now, False
            return
        waited = now - self._placed
        if not self._said and waited >= 2 * LOOK_EVERY_S:  # not for a restart that finds a place
            self._said = True
            _logger.warning(
                "no node has room for a text encoder (%s) beside the groups: the run waits %s for "
                "one that joins, and ends when no clip is under way any more",
                self._needs,
                duration(self._wait_s),
            )
        if waited >= self._wait_s and not _groups_work(executor):
            raise UserError(
                f"stages.text separate: for {duration(waited)} no node has had room for a text "
                f"encoder ({self._needs}) beside the groups; what is made is kept: add a node, or "
                "run the same command again, which plans fewer groups"
            )


def all_wait(actors: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]]) -> bool:
    """Whether there are encoders that should run, and none of them has a place.

    One that loads has one already. As long as an actor has none, its address is that of the daemon
    of a node which was asked for a place, or empty.

    Args:
        actors: Of this job, as Ray's control store knows them.
        nodes: Of the cluster, from the same source.
    """
    daemons = {(node["NodeID"], node["NodeManagerPort"]) for node in nodes}

    def has_place(actor: Mapping[str, Any]) -> bool:
        node, port = actor["Address"]["NodeID"], actor["Address"]["Port"]
        return actor["State"] == "ALIVE" or (port > 0 and (node, port) not in daemons)

    encoders = [
        actor
        for actor in actors
        if TextActor.__name__ in actor["ActorClassName"] and actor["State"] != "DEAD"
    ]
    return bool(encoders) and not any(map(has_place, encoders))


def _groups_work(executor: StreamingExecutor) -> bool:
    return any(
        GroupActor.__name__ in operator.name and operator.num_active_tasks()
        for operator in executor._topology
    )
