"""Measures the clips per second of the whole pipeline and of its engines alone.

In a run and alone, engines make the same clips in the same batches on the same cores;
`jobs.benchmarks.throughput.core_sets` chooses these and the cores of the rest. Engines alone run in
their own processes, before and after the pipeline, so that a change of the machine's speed becomes
visible. Rates leave out the start-up, which is reported separately: they begin when every engine
has finished its first call, which warms it up. The pipeline's rate ends when its last row is
stored, the rate of engines alone when one of them has no more work.
"""

from __future__ import annotations

import functools
import io
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pyarrow.dataset as ds
from rich.console import Console

from jobs.benchmarks.throughput.core_sets import CoreSets, bind
from jobs.benchmarks.throughput.process_times import ProcessTimes
from jobs.benchmarks.throughput.traced_engine import (
    TracedCall,
    TracedEngine,
    read_calls,
    steady,
)
from pipeline.config.run_config import RunConfig
from pipeline.dataset.committed import committed
from pipeline.dataset.parts import PartWriter
from pipeline.engine.factory import engine_factory
from pipeline.engine.protocol import EngineFactory, batch_key
from pipeline.errors import UserError
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.prompts.reader import read_source
from pipeline.requests.defaults import request_defaults
from pipeline.requests.intake import Intake
from pipeline.requests.sample_request import SampleRequest
from pipeline.run import run
from pipeline.storage.storage import Storage


@dataclass(frozen=True)
class BareEngines:
    """The numbers of engines alone.

    Attributes:
        clips_per_s: Clips per second of all engines, while all were warm and had work.
        calls: All calls of the engines.
        cpu_s: CPU seconds per clip of their processes, without the first calls.
    """

    clips_per_s: float
    calls: list[TracedCall]
    cpu_s: float


@dataclass(frozen=True)
class WholePipeline:
    """The numbers of the whole pipeline.

    Attributes:
        clips_per_s: Clips per second in the window.
        clips: Clips made in the window, as `SteadyState` counts them.
        engines: Number of groups that the run chose.
        busy: Share of the window in which engines were inside calls.
        calls: Calls of its engines.
        intake_s: Reading and checking the input, before Ray starts.
        start_s: From the start of the run to the first engine call.
        window_s: Length of the window, from the end of the last first call of an engine until the
            last row is stored.
        encode_s: Seconds of encoding per clip, beside the engine.
        upload_s: Seconds of storing an mp4 per clip, beside the engine.
        rows_s: Seconds per clip for its row in Parquet, measured again on the same rows.
        cpu_s: CPU seconds in the window by kind of process.
    """

    clips_per_s: float
    clips: float
    engines: int
    busy: float
    calls: list[TracedCall]
    intake_s: float
    start_s: float
    window_s: float
    encode_s: float
    upload_s: float
    rows_s: float
    cpu_s: dict[str, float]

    @property
    def cpu_s_per_clip(self) -> float:
        """CPU seconds of all processes together."""
        return sum(self.cpu_s.values()) / self.clips


def bare(config: RunConfig, log: Path, cores: CoreSets, engines: int = 1) -> BareEngines:
    """Run engines alone over the prompts of a configuration, each in a process of its own.

    Every engine waits after its first call until all engines have ended theirs. Otherwise an engine
    that starts early on a busy machine can be done before the last one is warm.
    """
    spawn = multiprocessing.get_context("spawn")
    warm = spawn.Barrier(engines)
    pool = ProcessPoolExecutor(
        engines, mp_context=spawn, initializer=_share_barrier, initargs=(warm,)
    )
    with pool:
        shares = [
            pool.submit(_bare, config, str(log), cores, number, engines)
            for number in range(engines)
        ]
        failed = [share for share in shares if share.exception()]
        # One that fails breaks the wait of the others.
        failed.sort(key=lambda share: isinstance(share.exception(), BrokenBarrierError))
        spent = [share.result() for share in (*failed, *shares)]
    calls = read_calls(log)
    cpu_s = sum(seconds for seconds, _ in spent) / sum(clips for _, clips in spent)
    return BareEngines(steady(calls).clips_per_s, calls, cpu_s)


def whole(config: RunConfig, log: Path, cores: CoreSets) -> WholePipeline:
    """Run the pipeline over the prompts of a configuration, on a private cluster.

    Binds this process, and what it starts from here on, to the cores of the rest.

    Raises:
        RuntimeError: A clip did not end ok; the time would mean nothing.
    """
    model = resolve_model(config.model, config.model_path)
    began = time.perf_counter()
    pending = len(requests_of(config, model))
    intake_s = time.perf_counter() - began
    bind(cores.rest)
    started = time.time()
    with ProcessTimes() as times:
        report = run(config, factory=_traced(config, model, log, cores), console=_nowhere())
    if report.totals.ok != pending:
        raise RuntimeError(f"only {report.totals.ok} of {pending} clips ended ok")
    calls = read_calls(log)
    data = Path(config.output) / "data"
    ended = max(path.stat().st_mtime for path in data.iterdir())
    rows = ds.dataset(data, format="parquet").to_table()
    warm = steady(calls, ended)
    return WholePipeline(
        clips_per_s=warm.clips_per_s,
        clips=warm.clips,
        engines=warm.engines,
        busy=warm.busy,
        calls=calls,
        intake_s=intake_s,
        start_s=min(call.began for call in calls) - started,
        window_s=warm.seconds,
        encode_s=sum(rows["encode_s"].to_pylist()) / len(rows),
        upload_s=sum(rows["upload_s"].to_pylist()) / len(rows),
        rows_s=_write_again(config, rows) / len(rows),
        cpu_s=times.between(warm.began, ended),
    )


def check_clips(clips: int, batch_rows: int, engines: int) -> None:
    """Refuse a run too short to have a steady state.

    Raises:
        UserError: There are too few clips; the message gives the least number.
    """
    least = 3 * batch_rows * engines
    if clips < least:
        raise UserError(f"--clips {clips}: at least {least}, three calls of each engine")


def requests_of(config: RunConfig, model: ResolvedModel) -> list[SampleRequest]:
    """Return the requests of a first run of this configuration, in order."""
    rows = read_source(config.prompts, config.prompt_column)
    nothing = committed(Storage("memory://nothing"), retry_failed=False)
    return list(Intake(rows, request_defaults(config, model), nothing))


_all_warm = Barrier(1)
"""Where engines alone wait after their first call; shared by the processes of one `bare`."""


def _share_barrier(warm: Barrier) -> None:
    global _all_warm  # a barrier reaches another process only as it starts
    _all_warm = warm


def _bare(
    config: RunConfig, log: str, cores: CoreSets, number: int, engines: int
) -> tuple[float, int]:
    """Return CPU seconds and clips of an engine's calls without the first."""
    model = resolve_model(config.model, config.model_path)
    requests = requests_of(config, model)
    size = model.spec.batch_rows if config.batch_rows == "auto" else config.batch_rows
    assert len({batch_key(request) for request in requests}) == 1  # noqa: S101 - of one config
    batches = [requests[start : start + size] for start in range(0, len(requests), size)]
    first, *others = batches[number::engines]
    try:
        engine = _traced(config, model, Path(log), cores)()
        engine.generate(first)
        _all_warm.wait()
    except BaseException:
        _all_warm.abort()  # the other engines would wait for ever
        raise
    began = time.process_time()
    for batch in others:
        engine.generate(batch)
    spent = time.process_time() - began
    engine.close()
    return spent, sum(len(batch) for batch in others)


def _traced(config: RunConfig, model: ResolvedModel, log: Path, cores: CoreSets) -> EngineFactory:
    threads = config.parallel.cpus_per_rank if cores.engine else 0
    make = engine_factory(config, model, device=config.device, threads=threads)
    return functools.partial(TracedEngine, make, str(log), cores.engine)


def _write_again(config: RunConfig, rows: ds.Table) -> float:
    sink = PartWriter(
        Storage(f"{config.output}-again"),
        "again",
        part_rows=config.part_rows,
        part_seconds=config.part_seconds,
    )
    began = time.perf_counter()
    for row in range(len(rows)):
        sink.add(rows.slice(row, 1))
    sink.flush()
    return time.perf_counter() - began


def _nowhere() -> Console:
    return Console(file=io.StringIO())
