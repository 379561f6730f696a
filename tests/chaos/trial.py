"""One trial: a run, a kill at a random moment, and the same command again until it is done."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from tests.chaos import candidates
from tests.chaos.candidates import expected_rows
from tests.chaos.cluster import Cluster, group_processes, wait_until
from tests.chaos.engine import faults_of
from tests.chaos.faults import ANSWER, CLOSE, FAST, LOAD, Faults
from tests.chaos.results import LocalResult, Result, StoredResult, small_disk
from tests.chaos.store import BUCKET, Store
from tests.chaos.verify import Kill, Verdict, judge, read_log, recovery_s

SAMPLES = 48
CALL_S = 0.12
RUN_S, SETTLE_S = 400.0, 120.0
MOST_RESTARTS = 4
EARLY = 0.25
"""Share of the kills that come while the run is starting."""
WITH_RANKS = 0.35
"""Share of the trials whose groups are real processes, where the kill needs none."""

_drivers = multiprocessing.get_context("forkserver")
_drivers.set_forkserver_preload(["tests.chaos.driver"])


@dataclass
class Trial:
    """What one trial saw.

    Attributes:
        seed: Makes kind and moment.
        kind: What was killed.
        moment: Where in the run.
        codes: Exit codes of the drivers, in order.
        verdict: What became of the samples.
        orphans: Processes that were left.
        recovery_s: From the kill to the next clip.
        wall_s: Of the whole trial.
        problem: Why it could not be ended, "" if it could.
    """

    seed: int
    kind: str
    moment: str
    codes: list[int] = field(default_factory=list)
    verdict: Verdict | None = None
    orphans: list[str] = field(default_factory=list)
    recovery_s: float = 0.0
    wall_s: float = 0.0
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not self.problem and not self.orphans and bool(self.verdict and self.verdict.holds)


class Scene:
    """Everything that a trial can kill."""

    def __init__(self, cluster: Cluster, store: Store, folder: Path, seed: int, kind: str) -> None:
        self.cluster, self.store, self.folder = cluster, store, folder
        self.random = random.Random(seed)
        self.ranks = kind in ("rank", ANSWER) or self.random.random() < WITH_RANKS
        self.log = folder / "attempts.jsonl"
        self.broken = folder / "broken-node"
        self.faults = Faults(faults_of(str(self.broken)))
        self.said = folder / "driver.log"
        self.output = f"s3://{BUCKET}/trial-{seed}"
        self.result: Result = StoredResult(store, f"trial-{seed}")
        # A broken node shows after some deaths, which must not take longer than all the clips.
        self.call_s = 4 * CALL_S if kind == "broken node" else CALL_S
        self.driver: BaseProcess | None = None
        prompts = folder / "prompts.txt"
        self.prompts = [f"clip {seed} {n}" for n in range(SAMPLES)]
        prompts.write_text("\n".join(self.prompts) + "\n")
        self.settings: dict[str, Any] = {
            "prompts": str(prompts),
            "cache": {"policy": "none"},
            "parallel": {"cpus_per_rank": 2},  # one group on each node
            "sampling": {"width": 16, "height": 16, "num_frames": 5},
            "replicas": self.random.choice(["auto", 2]) if kind == "node for good" else 2,
            "batch_rows": self.random.choice([1, 2, 4]),
            "batches_per_task": self.random.choice([1, 3]),
            "part_rows": self.random.choice([3, 10, 100]),
            "part_seconds": 1.0,
            "contact_sheet": False,
            "report": False,
        }
        self.settings |= candidates.SETTINGS.get(kind, {})

    def use(self, folder: Path) -> None:
        """Put the output into a local folder."""
        self.output = str(folder / "out")
        self.result = LocalResult(folder / "out")

    def start(self) -> None:
        """Start a driver."""
        from tests.chaos.driver import drive

        env = {"RAY_ADDRESS": self.cluster.address, **self.store.env}
        for name in ("PYTHONPATH", "CHAOS_TOKEN", "RAY_AUTH_MODE"):
            env[name] = os.environ[name]
        settings = {**self.settings, "output": self.output}
        files = str(self.broken), self.ranks, str(self.said)
        given = (settings, env, str(self.log), self.call_s, *files)
        self.driver = _drivers.Process(target=drive, args=given)  # type: ignore[attr-defined]
        self.driver.start()

    def join(self, timeout_s: float) -> int | None:
        """The driver's exit code, None if it goes on."""
        assert self.driver is not None
        self.driver.join(timeout_s)
        return self.driver.exitcode

    def drawn(self) -> int:
        """Engine calls that have begun."""
        return sum(attempt.event == "begin" for attempt in read_log(self.log))

    def makers(self) -> int:
        """Processes that have made a clip, dead ones included."""
        return len({attempt.pid for attempt in read_log(self.log) if attempt.event == "end"})

    def actors(self) -> list[int]:
        """Processes that own a group, by the log."""
        alive = {attempt.pid for attempt in read_log(self.log)}
        return sorted(pid for pid in alive if psutil.pid_exists(pid))


def kill_rank(scene: Scene) -> None:
    """SIGKILL one rank of one group."""
    ranks = group_processes()
    if ranks:
        scene.random.choice(ranks).kill()


def kill_actor(scene: Scene) -> None:
    """SIGKILL a worker process that owns a group."""
    actors = scene.actors()
    if actors:
        os.kill(scene.random.choice(actors), signal.SIGKILL)


def kill_node(scene: Scene) -> None:
    """SIGKILL a node; another takes its place after a while."""
    _end_node(scene, gently=False)


def notice_node(scene: Scene) -> None:
    """SIGTERM a node, as before the end of a spot machine; another takes its place."""
    _end_node(scene, gently=True)


def lose_node(scene: Scene) -> None:
    """SIGKILL a node that nothing replaces before the run has ended."""
    index = scene.random.randrange(2)
    scene.cluster.kill_worker(index, gently=False)
    scene.join(RUN_S)
    scene.cluster.replace_worker(index)


def _end_node(scene: Scene, *, gently: bool) -> None:
    index = scene.random.randrange(2)
    scene.cluster.kill_worker(index, gently=gently)
    time.sleep(scene.random.uniform(0, 4))
    scene.cluster.replace_worker(index)


def kill_driver(scene: Scene) -> None:
    """SIGKILL the driver."""
    assert scene.driver is not None
    scene.driver.kill()


def interrupt_driver(scene: Scene) -> None:
    """SIGTERM the driver."""
    assert scene.driver is not None
    scene.driver.terminate()


def kill_store(scene: Scene) -> None:
    """SIGKILL the S3 server; it comes back with what it had acknowledged."""
    scene.store.kill()
    time.sleep(scene.random.uniform(0, 6))
    scene.store.start()


def fill_store(scene: Scene) -> None:
    """Let the S3 server refuse what is put, until the driver gives up; then make room."""
    with scene.store.full():
        code = scene.join(RUN_S)
    assert code in (0, 2), f"a full store ended the driver with {code}"


def fill_disk(scene: Scene) -> None:
    """Fill the disk of the output, until the driver gives up; then make room."""
    filler = Path(scene.output).parent / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    code = scene.join(RUN_S)
    filler.unlink()
    assert code in (0, 2), f"a full disk ended the driver with {code}"


def spoil_requests(scene: Scene) -> None:
    """Let one request of six meet a fault from here to the end of the run."""
    with scene.store.proxy.faulty(1 / 6):
        scene.join(RUN_S)


def break_node(scene: Scene) -> None:
    """Let a node kill whatever runs on it; another takes its place during the run or after it."""
    index = scene.random.randrange(2)
    scene.broken.write_text(scene.cluster.node_id(index))
    scene.join(scene.random.choice([scene.random.uniform(0, 20), RUN_S]))
    scene.cluster.kill_worker(index, gently=False)
    scene.cluster.replace_worker(index)
    scene.broken.unlink()


def kill_any(scene: Scene) -> None:
    """SIGKILL a group's process, a node or the driver."""
    scene.random.choice([kill_actor, kill_node, kill_driver])(scene)


NO_CONDITIONS = "no conditional puts"


def plant(kind: str) -> Callable[[Scene], None]:
    """Give one process a fault of its own, to the end of the run."""

    def kill(scene: Scene) -> None:
        scene.faults.plant(kind)
        scene.join(RUN_S)
        scene.faults.clear()

    return kill


def forbid_loads(scene: Scene) -> None:
    """Kill a process on a node that can load nothing from now on; another takes its place."""
    index = scene.random.randrange(2)
    scene.faults.plant(LOAD, scene.cluster.node_id(index))
    kill_actor(scene)
    scene.join(scene.random.choice([scene.random.uniform(5, 30), RUN_S]))
    scene.cluster.kill_worker(index, gently=False)
    scene.cluster.replace_worker(index)
    scene.faults.clear()


KINDS: dict[str, Callable[[Scene], None]] = {
    "rank": kill_rank,
    "actor": kill_actor,
    "node": kill_node,
    "node for good": lose_node,
    "spot notice": notice_node,
    "driver": kill_driver,
    "SIGTERM": interrupt_driver,
    "S3 server": kill_store,
    "store full": fill_store,
    "disk full": fill_disk,
    "flaky store": spoil_requests,
    "broken node": break_node,
    ANSWER: plant(ANSWER),
    FAST: plant(FAST),
    CLOSE: plant(CLOSE),
    LOAD: forbid_loads,
    NO_CONDITIONS: kill_driver,  # whose workers may be storing while the next run begins
    candidates.REDRAW: kill_any,
    candidates.BEST_OF: kill_any,
}
NEEDS_GROUPS = ("rank", "actor", ANSWER)
"""There is nothing to kill before the groups are up."""


def run_trial(cluster: Cluster, store: Store, seed: int) -> Trial:
    """Run, kill, resume, check."""
    kinds = list(KINDS)
    kind = kinds[seed % len(kinds)]
    with tempfile.TemporaryDirectory(prefix=f"trial-{seed}-") as folder:
        scene = Scene(cluster, store, Path(folder), seed, kind)
        trial = Trial(seed, kind, "")
        began = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                if kind == NO_CONDITIONS:
                    stack.enter_context(store.lax())
                if kind == "disk full":
                    scene.use(stack.enter_context(small_disk()))
                _play(scene, trial)
        except AssertionError as error:
            trial.problem = str(error)
        finally:
            if scene.driver is not None and scene.driver.exitcode is None:
                scene.driver.kill()
        trial.wall_s = time.monotonic() - began
        if not trial.holds:
            trial.problem += "\n" + scene.said.read_text()[-3000:] if scene.said.exists() else ""
    return trial


def _play(scene: Scene, trial: Trial) -> None:
    scene.start()
    if scene.random.random() < EARLY and trial.kind not in NEEDS_GROUPS:
        pause = scene.random.uniform(0, 5)
        trial.moment = f"{pause:.1f} s after the start"
        scene.join(pause)
    else:
        calls = scene.random.randrange(1, SAMPLES // scene.settings["batch_rows"])
        pause = scene.random.uniform(0, 2 * CALL_S)
        trial.moment = f"{pause:.2f} s after call {calls}"
        wait_until(
            lambda: scene.drawn() >= calls or scene.join(0) is not None, RUN_S, f"call {calls}"
        )
        time.sleep(pause)
    stored = scene.result.media()  # first: what is drawn while it is listed may be in the list
    kill = Kill(time.time(), stored)
    KINDS[trial.kind](scene)
    while True:
        code = scene.join(RUN_S)
        assert code is not None, f"the run hangs, {RUN_S:.0f} s after the kill"
        trial.codes.append(code)
        if code == 0:
            break
        assert len(trial.codes) <= MOST_RESTARTS, f"no end after exit codes {trial.codes}"
        scene.start()
    ended = time.time()
    attempts = read_log(scene.log)
    trial.recovery_s = recovery_s(attempts, kill, ended)
    rows = scene.result.rows()
    expected = expected_rows(trial.kind, rows, scene.prompts)
    trial.verdict = judge(expected, rows, scene.result.hashes(), attempts, [kill])
    try:
        wait_until(lambda: not group_processes() and not scene.actors(), SETTLE_S, "no orphan")
    except AssertionError:
        trial.orphans = [str(p.pid) for p in group_processes()] + [str(p) for p in scene.actors()]
