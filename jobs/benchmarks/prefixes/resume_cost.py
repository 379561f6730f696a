"""Measures two ways to find out which samples of an input are missing in a large prefix.

`python -m jobs.benchmarks.prefixes.resume_cost ours|ray FOLDER` measures one of them in its own
process.

Ours is the start of a real run (`--dry-run`): it reads ids and states of all parts, then reads,
checks, hashes and looks up every row of the input. Ray Data reads a checkpoint of ids, which is
smaller than the parts, and an input that already contains ids. It writes what is left, because its
plans must end in a write; it hashes and checks nothing.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.schema import (
    Provenance,
    SampleOutcome,
    make_row,
    to_table,
)
from pipeline.models.resolve import resolve_model
from pipeline.requests.defaults import request_defaults
from pipeline.requests.lazy_request import LazyRequests
from pipeline.run import run

LEFT_IN = 1000
"""One row in so many is left; as many committed rows belong to other inputs."""

SAMPLE_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix that was made for the measurement.

    Attributes:
        folder: Folder with `prompts.parquet`, `out` and `checkpoint`.
        parts: Number of Parquet files of rows.
        left: Number of input rows that are not committed.
    """

    folder: Path
    parts: int
    left: int


def settings(folder: Path) -> RunConfig:
    """Return the configuration of the run whose start is measured."""
    return RunConfig.model_validate(
        {
            "prompts": str(folder / "prompts.parquet"),
            "output": str(folder / "out"),
            "cache": {"policy": "none"},
            "dry_run": True,
        }
    )


def make_prefix(folder: Path, rows: int, *, part_rows: int) -> Prefix:
    """Write `rows` committed rows and an input of `rows` prompts, all but 1 in 1000 done."""
    config = settings(folder)
    defaults = request_defaults(config, resolve_model(config.model, config.model_path))
    requests = LazyRequests(defaults)
    left = max(1, rows // LEFT_IN)
    prompts = [f"clip number {n} of a long and rather ordinary dataset" for n in range(rows + left)]
    ids = [requests.of_row({"prompt": prompt}, 1)[0].sample_id.hex() for prompt in prompts]
    (folder / "out" / "data").mkdir(parents=True)
    (folder / "checkpoint").mkdir()
    given = pa.table({"prompt": prompts[:rows], "sample_id": ids[:rows]})
    pq.write_table(given, folder / "prompts.parquet")
    request = requests.of_row({"prompt": "p"}, 1)[0].build("prompts.parquet:1")
    row = make_row(request, Provenance("20260101T000000Z-000000"), SampleOutcome("ok"))
    template = to_table([row]).take(pa.array([0] * part_rows))
    at = template.schema.get_field_index("sample_id")
    committed = ids[left:]  # as many rows as the input has, the last of them of another input
    parts = range(0, rows, part_rows)
    for number, start in enumerate(parts):
        own = committed[start : start + part_rows]
        part = template.slice(0, len(own)).set_column(at, "sample_id", pa.array(own))
        name = folder / "out" / "data" / f"part-20260101T000000Z-000000-{number:05d}.parquet"
        pq.write_table(part, name, compression="zstd")
    for start in range(0, rows, 100_000):
        own = committed[start : start + 100_000]
        pq.write_table(pa.table({"sample_id": own}), folder / "checkpoint" / f"{start}.parquet")
    return Prefix(folder, len(parts), left)


def ours(folder: Path) -> dict[str, Any]:
    """Measure the start of a run; the imports of a run are done before."""
    config = settings(folder)
    request_defaults(config, resolve_model(config.model, config.model_path))
    said = io.StringIO()
    with _watched() as seen:
        run(config, console=Console(file=said, width=200))
    (line,) = [line for line in said.getvalue().splitlines() if "clips to make" in line]
    return seen | {"left": int(line.split(" clips to make")[0].split()[-1])}


def rays(folder: Path) -> dict[str, Any]:
    """Measure Ray Data's checkpoint on a running cluster."""
    import ray
    import ray.data
    from ray.data.checkpoint import CheckpointConfig

    ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    ray.data.range(8).map_batches(lambda batch: batch).materialize()  # start its workers
    context.checkpoint_config = CheckpointConfig(
        id_column="sample_id",
        checkpoint_path=str(folder / "checkpoint"),
        delete_checkpoint_on_success=False,
    )
    with _watched() as seen:
        left = ray.data.read_parquet(str(folder / "prompts.parquet"))
        left.write_parquet(str(folder / "left"))
    files = sorted((folder / "left").glob("*.parquet"))
    count = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    ray.shutdown()
    return seen | {"left": count}


@contextmanager
def _watched() -> Iterator[dict[str, Any]]:
    """Wall and CPU seconds, and the peak memory, of this process and its children."""
    seen: dict[str, Any] = {"before_bytes": _memory(), "peak_bytes": 0}
    stop = threading.Event()

    def watch() -> None:
        while True:
            seen["peak_bytes"] = max(seen["peak_bytes"], _memory())
            if stop.wait(SAMPLE_EVERY_S):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, spent = time.perf_counter(), _cpu_s()
    try:
        yield seen
    finally:
        seen["plan_s"] = time.perf_counter() - began
        seen["cpu_s"] = _cpu_s() - spent
        stop.set()
        watcher.join()


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of its living descendants."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _memory() -> int:
    """Return the memory of this process and its descendants; shared memory counts once."""
    me = psutil.Process()
    below = me.children(recursive=True)
    if not below:
        return int(me.memory_info().rss)  # faster, and equal
    total = 0
    for process in [me, *below]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    measure = {"ours": ours, "ray": rays}[sys.argv[1]]
    sys.stdout.write(json.dumps(measure(Path(sys.argv[2]))) + "\n")
