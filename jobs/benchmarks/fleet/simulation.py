"""A run on a fleet as a discrete-event simulation (simpy): groups, spot kills, and shared servers.

Groups take work when they are free, as Ray Data's actors do: samples are dispatched while others
run, and finished ones are stored meanwhile. Driver, ledger and object store are servers with one
queue each. A node's death takes its groups down, with the samples they were at.

One event handles a chunk of samples, a tenth of a group's fair share of what is left: ten million
samples take about a minute, and the end of the run is still simulated sample by sample.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

CHUNKS_LEFT = 10
"""A chunk is this part of a group's share of what is left."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Devices.

    Attributes:
        gpus: In all.
        gpus_per_group: Ranks of a group.
        gpus_per_node: What dies together.
        load_s: From a fresh node or process to the first sample: weights, compilation.
        node_life_s: Mean seconds until a spot node is taken; infinite: never.
        replace_s: Mean seconds until another one is there.
        straggler_share: Share of the groups that are slow.
        straggler_factor: How much longer those take.
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
    """Samples and what each costs a group.

    Attributes:
        samples: In all.
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
    """What all groups share, as seconds of service per sample.

    Attributes:
        driver_s: Dispatch of a sample and handling of its row.
        ledger_s: Its calls to the ledger.
        store_s: Its requests, over the requests per second that the store takes.
    """

    driver_s: float = 0.0
    ledger_s: float = 0.0
    store_s: float = 0.0


@dataclass(slots=True)
class FleetResult:
    """What a simulated run came to.

    Attributes:
        wall_s: Until the last sample is stored.
        gpu_s: Device seconds that were paid: all from the start until then, dead nodes excepted.
        useful_s: Device seconds in samples that ended.
        lost_s: Device seconds in samples that a death cut short.
        loading_s: Device seconds of starts.
        deaths: Of nodes.
        cut_short: Samples begun again.
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


def simulate(fleet: Fleet, work: FleetWorkload, servers: Servers, seed: int = 0) -> FleetResult:
    """Run a fleet until every sample is stored.

    Raises:
        ValueError: Groups do not fit on nodes, or there are none.
    """
    if fleet.gpus_per_node % fleet.gpus_per_group or fleet.gpus < fleet.gpus_per_group:
        raise ValueError(
            f"groups of {fleet.gpus_per_group} do not fill nodes of {fleet.gpus_per_node} GPUs, "
            f"or {fleet.gpus} GPUs hold none"
        )
    return _SimulatedRun(fleet, work, servers, random.Random(seed)).outcome()


_Process = Generator[simpy.Event, Any, None]


class _SimulatedRun:
    def __init__(
        self, fleet: Fleet, work: FleetWorkload, servers: Servers, dice: random.Random
    ) -> None:
        self._fleet, self._work, self._dice = fleet, work, dice
        self._env = simpy.Environment()
        self._queues = {
            name: (simpy.Resource(self._env), seconds)
            for name, seconds in (
                ("driver", servers.driver_s),
                ("ledger", servers.ledger_s),
                ("store", servers.store_s),
            )
        }
        self._left = self._unstored = work.samples
        self._groups = fleet.gpus // fleet.gpus_per_group
        self._served = dict.fromkeys(self._queues, 0.0)
        self._dead_gpu_s = 0.0
        self._out = FleetResult()
        self._done = self._env.event()
        self._more = self._env.event()

    def outcome(self) -> FleetResult:
        per_node = self._fleet.gpus_per_node // self._fleet.gpus_per_group
        for first in range(0, self._groups, per_node):
            size = min(per_node, self._groups - first)
            self._env.process(self._node([self._factor() for _ in range(size)]))
        self._env.run(self._done)
        out, fleet = self._out, self._fleet
        out.wall_s = self._env.now
        out.gpu_s = out.wall_s * self._groups * fleet.gpus_per_group - self._dead_gpu_s
        out.busy = {name: each / out.wall_s for name, each in self._served.items()}
        return out

    def _factor(self) -> float:
        slow = self._dice.random() < self._fleet.straggler_share
        return self._fleet.straggler_factor if slow else 1.0

    def _node(self, factors: list[float]) -> _Process:
        """A node: its groups until it dies, a gap, and its successor."""
        fleet, env = self._fleet, self._env
        while True:
            groups = [env.process(self._group(factor)) for factor in factors]
            if math.isinf(fleet.node_life_s):
                return
            yield env.timeout(self._dice.expovariate(1 / fleet.node_life_s))
            self._out.deaths += 1
            for group in groups:
                if group.is_alive:
                    group.interrupt()
            gap = self._dice.expovariate(1 / fleet.replace_s) if fleet.replace_s else 0.0
            began = env.now
            yield env.timeout(gap)
            gone = (env.now - began) * len(factors) * fleet.gpus_per_group
            self._dead_gpu_s += gone

    def _group(self, factor: float) -> _Process:
        """A group: load, then chunk after chunk, until the run is over or its node dies."""
        env, out, ranks = self._env, self._out, self._fleet.gpus_per_group
        doing, began, seconds, chunk = "load", env.now, 0.0, 0
        stored: simpy.Event = env.timeout(0)
        dispatched = env.process(self._serve("driver", 0))
        try:
            yield env.timeout(self._fleet.load_s)
            out.loading_s += self._fleet.load_s * ranks
            doing = "wait"
            while self._unstored:
                chunk = self._take()
                if not chunk:
                    yield self._more  # a death may give work back
                    continue
                dispatched = env.process(self._serve("driver", chunk))
                doing, began, seconds = "work", env.now, self._seconds(chunk) * factor
                yield env.timeout(seconds)
                doing = "wait"
                out.useful_s += seconds * ranks
                out.events += 1
                before, stored = stored, env.process(self._store(chunk))
                yield dispatched & before  # at most one chunk waits to be stored
        except simpy.Interrupt:
            spent = env.now - began
            if doing == "load":
                out.loading_s += spent * ranks
            if doing == "work":
                whole = min(chunk - 1, int(chunk * spent / seconds))
                kept = whole * seconds / chunk
                out.useful_s += kept * ranks
                out.lost_s += (spent - kept) * ranks
                out.cut_short += 1
                env.process(self._store(whole))
                self._give_back(chunk - whole)
                if dispatched.is_alive:
                    dispatched.interrupt()
                else:  # the rest of a chunk is dispatched by whoever makes it
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
        work = self._work
        spread = work.evaluation_s * work.nfe_sd * math.sqrt(samples)
        seconds = samples * work.clip_s + (self._dice.gauss(0, spread) if spread else 0.0)
        return max(seconds, samples * work.fixed_s)

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
        except simpy.Interrupt:  # its group is gone: the rest of its samples are another's
            pass
        if began < math.inf:
            self._served[name] += self._env.now - began

    def _store(self, samples: int) -> _Process:
        yield self._env.process(self._serve("ledger", samples))
        yield self._env.process(self._serve("store", samples))
        self._unstored -= samples
        if not self._unstored and not self._done.triggered:
            self._done.succeed()
