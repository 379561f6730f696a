"""Clips per second of the whole pipeline over those of its bare engine.

The engine makes the same clips in the same batches with the same threads on the same cores, in a
run and alone; `pipeline.benchmarks.core_sets` says where the rest of the run is. The engine alone
runs in a process of its own, before and after the pipeline, so that a machine that slows down
meanwhile shows. Start-up is left out on both sides and told apart: rates count from the end of the
first engine call, which warms up; the pipeline's until its last row is in storage.
"""

from __future__ import annotations

import functools
import io
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds
from rich.console import Console

from pipeline.benchmarks.core_sets import CoreSets
from pipeline.benchmarks.process_times import ProcessTimes
from pipeline.benchmarks.traced_engine import Call, TracedEngine, read_calls
from pipeline.config import RunConfig
from pipeline.defaults import engine_factory, request_defaults
from pipeline.engine import EngineFactory, batch_key
from pipeline.errors import UserError
from pipeline.intake import Intake
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.request import SampleRequest
from pipeline.resume import committed
from pipeline.run import run
from pipeline.sink import Sink
from pipeline.source import read_source
from pipeline.storage import Storage


@dataclass(frozen=True)
class Bare:
    """The engine alone.

    Attributes:
        clips_per_s: After the first call.
        calls: All of them.
        cpu_s: CPU seconds per clip of its process, after the first call.
    """

    clips_per_s: float
    calls: list[Call]
    cpu_s: float


@dataclass(frozen=True)
class Whole:
    """The pipeline.

    Attributes:
        clips_per_s: From the end of the first engine call until the last row is stored.
        clips: Made in that time.
        calls: Of its engine.
        intake_s: Reading and checking the input, before Ray starts.
        start_s: From the start of the run to the first engine call.
        window_s: What `clips_per_s` counts.
        encode_s: Seconds of encoding per clip, beside the engine.
        upload_s: Seconds of storing an mp4 per clip, beside the engine.
        rows_s: Seconds per clip for its row in Parquet, measured again on the same rows.
        cpu_s: CPU seconds in the window by kind of process.
    """

    clips_per_s: float
    clips: int
    calls: list[Call]
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

    @property
    def busy(self) -> float:
        """Share of the window in which the engine was inside a call."""
        return sum(call.ended - call.began for call in self.calls[1:]) / self.window_s


def bare(config: RunConfig, log: Path, cores: CoreSets) -> Bare:
    """Run the engine alone over the prompts of a configuration, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        cpu_s = pool.submit(_bare, config, str(log), cores).result()
    calls = read_calls(log)
    clips = sum(call.clips for call in calls[1:])
    return Bare(clips / (calls[-1].ended - calls[0].ended), calls, cpu_s / clips)


def whole(config: RunConfig, log: Path, cores: CoreSets) -> Whole:
    """Run the pipeline over the prompts of a configuration, on a private cluster.

    Binds this process, and what it starts from here on, to the cores of the rest.

    Raises:
        RuntimeError: A clip did not end ok; the time would mean nothing.
    """
    model = resolve_model(config.model, config.model_path)
    began = time.perf_counter()
    pending = len(requests_of(config, model))
    intake_s = time.perf_counter() - began
    os.sched_setaffinity(0, cores.rest)
    started = time.time()
    with ProcessTimes() as times:
        report = run(config, factory=_traced(config, model, log, cores), console=_nowhere())
    if report.tally.ok != pending:
        raise RuntimeError(f"only {report.tally.ok} of {pending} clips ended ok")
    calls = read_calls(log)
    data = Path(config.output) / "data"
    ended = max(path.stat().st_mtime for path in data.iterdir())
    rows = ds.dataset(data, format="parquet").to_table()
    clips = sum(call.clips for call in calls[1:])
    window = ended - calls[0].ended
    return Whole(
        clips_per_s=clips / window,
        clips=clips,
        calls=calls,
        intake_s=intake_s,
        start_s=calls[0].began - started,
        window_s=window,
        encode_s=sum(rows["encode_s"].to_pylist()) / len(rows),
        upload_s=sum(rows["upload_s"].to_pylist()) / len(rows),
        rows_s=_write_again(config, rows) / len(rows),
        cpu_s=times.between(calls[0].ended, ended),
    )


def check_clips(clips: int, batch_rows: int) -> None:
    """Refuse a run too short to have a steady state.

    Raises:
        UserError: With the least number.
    """
    if clips < 3 * batch_rows:
        raise UserError(f"--clips {clips}: at least {3 * batch_rows}, three engine calls")


def requests_of(config: RunConfig, model: ResolvedModel) -> list[SampleRequest]:
    """What a first run of this configuration would make, in order, whatever is made already."""
    rows = read_source(config.prompts, config.prompt_column)
    nothing = committed(Storage("memory://nothing"), retry_failed=False)
    return list(Intake(rows, request_defaults(config, model), nothing))


def _bare(config: RunConfig, log: str, cores: CoreSets) -> float:
    """CPU seconds of all engine calls but the first."""
    model = resolve_model(config.model, config.model_path)
    requests = requests_of(config, model)
    engine = _traced(config, model, Path(log), cores)()
    size = model.spec.batch_rows if config.batch_rows == "auto" else config.batch_rows
    assert len({batch_key(request) for request in requests}) == 1  # noqa: S101 - of one config
    engine.generate(requests[:size])
    began = time.process_time()
    for start in range(size, len(requests), size):
        engine.generate(requests[start : start + size])
    spent = time.process_time() - began
    engine.close()
    return spent


def _traced(config: RunConfig, model: ResolvedModel, log: Path, cores: CoreSets) -> EngineFactory:
    make = engine_factory(config, model, device=config.device, threads=len(cores.engine))
    return functools.partial(TracedEngine, make, str(log), cores.engine)


def _write_again(config: RunConfig, rows: ds.Table) -> float:
    sink = Sink(
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
