"""A discrete-event simulation (simpy) of a run on a fleet: groups, spot kills, shared servers.

Free groups take work, as Ray Data's actors do: samples are dispatched and stored while others run.
Driver, ledger and object store are servers with one queue each. When a node dies, its groups end
and the samples that they were working on start again.

One event handles a chunk of samples, a tenth of a group's share of the remaining ones. So ten
million samples take about a minute, and the end of a run is simulated sample by sample.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

CHUNKS_LEFT = 10
"""A chunk is one part in so many of a group's share of the remaining samples."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The devices of a simulated run.

    Attributes:
        gpus: Number of all GPUs.
        gpus_per_group: GPUs of a group.
        gpus_per_node: GPUs of a node, which die together.
        load_s: Seconds from the start of a process to its first sample: weights, compilation.
        node_life_s: Mean seconds until a spot node is taken away; infinite for never.
        replace_s: Mean seconds until a node is replaced.
        straggler_share: Share of the groups that are slow.
        straggler_factor: Time that slow groups take, as a multiple.
    """

    gpus: int
    gpus_per_group: int = 1
    gpus_per_node: int = 8
    load_s: float = 0.0
    node_life_s: float = math.inf
    replace_s: float = 0.0
    straggler_share: float = 0.0
    straggler_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class FleetWorkload:
    """The samples of a simulated run and what each costs a group.

    Attributes:
        samples: Number of all samples.
        fixed_s: Seconds per clip that do not depend on the evaluations.
        evaluation_s: Seconds per network evaluation, by the whole group.
        nfe: Mean evaluations per clip.
        nfe_sd: Their standard deviation over clips.
    """

    samples: int
    fixed_s: float
    evaluation_s: float
    nfe: float
    nfe_sd: float = 0.0

    @property
    def clip_s(self) -> float:
        """Mean seconds of a clip."""
        return self.fixed_s + self.evaluation_s * self.nfe


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that all groups share, as seconds of service per sample.

    Attributes:
        driver_s: The driver: dispatching a sample and handling its row.
        ledger_s: The ledger: its calls for a sample.
        store_s: The object store: requests of a sample / requests per second.
    """

    driver_s: float = 0.0
    ledger_s: float = 0.0
    store_s: float = 0.0


@dataclass(slots=True)
class FleetResult:
    """The results of a simulated run.

    Attributes:
        wall_s: Seconds until the last sample is stored.
        gpu_s: Device seconds that are paid: all until then but those of dead nodes.
        useful_s: Device seconds in finished samples.
        lost_s: Device seconds in samples that a death interrupted.
        loading_s: Device seconds of loading.
        deaths: Deaths of nodes.
        cut_short: Interrupted samples, which start again.
        busy: Share of the run in which each server worked.
        events: Chunks handled.
    """

    wall_s: float = 0.0
    gpu_s: float = 0.0
    useful_s: float = 0.0
    lost_s: float = 0.0
    loading_s: float = 0.0
    deaths: int = 0
    cut_short: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    events: int = 0


def simulate(fleet: Fleet, workload: FleetWorkload, servers: Servers, seed: int = 0) -> FleetResult:
    """Run a fleet until every sample is stored.

    Raises:
        ValueError: Groups do not fit on nodes, or there are none.
    """
    if fleet.gpus_per_node % fleet.gpus_per_group or fleet.gpus < fleet.gpus_per_group:
        raise ValueError(
            f"groups of {fleet.gpus_per_group} do not fill nodes of {fleet.gpus_per_node} GPUs, "
            f"or {fleet.gpus} GPUs hold none"
        )
    return _SimulatedRun(fleet, workload, servers, random.Random(seed)).result()


_Process = Generator[simpy.Event, Any, None]


class _SimulatedRun:
    def __init__(
        self, fleet: Fleet, workload: FleetWorkload, servers: Servers, dice: random.Random
    ) -> None:
        self._fleet, self._workload, self._dice = fleet, workload, dice
        self._env = simpy.Environment()
        self._queues = {
            name: (simpy.Resource(self._env), seconds)
            for name, seconds in (
                ("driver", servers.driver_s),
                ("ledger", servers.ledger_s),
                ("store", servers.store_s),
            )
        }
        self._left = self._unstored = workload.samples
        self._groups = fleet.gpus // fleet.gpus_per_group
        self._served = dict.fromkeys(self._queues, 0.0)
        self._dead_gpu_s = 0.0
        self._result = FleetResult()
        self._done = self._env.event()
        self._more = self._env.event()

    def result(self) -> FleetResult:
        per_node = self._fleet.gpus_per_node // self._fleet.gpus_per_group
        for first in range(0, self._groups, per_node):
            size = min(per_node, self._groups - first)
            self._env.process(self._node([self._factor() for _ in range(size)]))
        self._env.run(self._done)
        result, fleet = self._result, self._fleet
        result.wall_s = self._env.now
        result.gpu_s = result.wall_s * self._groups * fleet.gpus_per_group - self._dead_gpu_s
        result.busy = {name: each / result.wall_s for name, each in self._served.items()}
        return result

    def _factor(self) -> float:
        slow = self._dice.random() < self._fleet.straggler_share
        return self._fleet.straggler_factor if slow else 1.0

    def _node(self, factors: list[float]) -> _Process:
        """Simulate a node: its groups until it dies, a gap, and its successor."""
        fleet, env = self._fleet, self._env
        while True:
            groups = [env.process(self._group(factor)) for factor in factors]
            if math.isinf(fleet.node_life_s):
                return
            yield env.timeout(self._dice.expovariate(1 / fleet.node_life_s))
            self._result.deaths += 1
            for group in groups:
                if group.is_alive:
                    group.interrupt()
            gap = self._dice.expovariate(1 / fleet.replace_s) if fleet.replace_s else 0.0
            began = env.now
            yield env.timeout(gap)
            gone = (env.now - began) * len(factors) * fleet.gpus_per_group
            self._dead_gpu_s += gone

    def _group(self, factor: float) -> _Process:
        """Simulate a group: loading, then chunks, until the run is over or the node dies."""
        env, result, ranks = self._env, self._result, self._fleet.gpus_per_group
        doing, began, seconds, chunk = "load", env.now, 0.0, 0
        stored: simpy.Event = env.timeout(0)
        dispatched = env.process(self._serve("driver", 0))
        try:
            yield env.timeout(self._fleet.load_s)
            result.loading_s += self._fleet.load_s * ranks
            doing = "wait"
            while self._unstored:
                chunk = self._take()
                if not chunk:
                    yield self._more  # a death may return work
                    continue
                dispatched = env.process(self._serve("driver", chunk))
                doing, began, seconds = "work", env.now, self._seconds(chunk) * factor
                yield env.timeout(seconds)
                doing = "wait"
                result.useful_s += seconds * ranks
                result.events += 1
                before, stored = stored, env.process(self._store(chunk))
                yield dispatched & before  # at most one chunk waits to be stored
        except simpy.Interrupt:
            spent = env.now - began
            if doing == "load":
                result.loading_s += spent * ranks
            if doing == "work":
                whole = min(chunk - 1, int(chunk * spent / seconds))
                kept = whole * seconds / chunk
                result.useful_s += kept * ranks
                result.lost_s += (spent - kept) * ranks
                result.cut_short += 1
                env.process(self._store(whole))
                self._give_back(chunk - whole)
                if dispatched.is_alive:
                    dispatched.interrupt()
                else:  # another group dispatches the rest of the chunk
                    self._served["driver"] -= (chunk - whole) * self._queues["driver"][1]

    def _give_back(self, samples: int) -> None:
        self._left += samples
        if samples:
            self._more.succeed()
            self._more = self._env.event()

    def _take(self) -> int:
        share = self._left / (self._groups * CHUNKS_LEFT)
        taken = min(self._left, max(1, math.floor(share)))
        self._left -= taken
        return taken

    def _seconds(self, samples: int) -> float:
        workload = self._workload
        spread = workload.evaluation_s * workload.nfe_sd * math.sqrt(samples)
        seconds = samples * workload.clip_s + (self._dice.gauss(0, spread) if spread else 0.0)
        return max(seconds, samples * workload.fixed_s)

    def _serve(self, name: str, samples: int) -> _Process:
        queue, seconds = self._queues[name]
        if not samples or not seconds:
            return
        began = math.inf
        try:
            with queue.request() as turn:
                yield turn
                began = self._env.now
                yield self._env.timeout(samples * seconds)
        except simpy.Interrupt:  # its group is gone: another group makes the rest
            pass
        if began < math.inf:
            self._served[name] += self._env.now - began

    def _store(self, samples: int) -> _Process:
        yield self._env.process(self._serve("ledger", samples))
        yield self._env.process(self._serve("store", samples))
        self._unstored -= samples
        if not self._unstored and not self._done.triggered:
            self._done.succeed()
