"""`dataset`: how soon a run has its first clips, whatever the number of prompts.

An engine that computes nothing, prompts in one Parquet file, one group. Each size is measured in a
process of its own, on a private cluster. Of a Ray Data program: how long the first rows take from
the building of the Dataset (actors start meanwhile), what each further row takes, and the peak
memory of the driver and of the intake's actor. Of the command line: how long the first engine call
takes from the start of the run and from when the engine is ready, and the same costs; the sizes
take turns, and all inputs are on the disk before the first run, because clips are synced to it.
`--resume` measures a run whose prompts are done but for one in 1,000.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.benchmarks.tables import table

HELP = "time to the first clips and memory, for up to ten million prompts"
WAYS = ("program", "command line")
SIZES = (10_000, 1_000_000, 10_000_000)
CHUNK = 100_000
STREAMED = "jobs.benchmarks.throughput.streamed_run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--prompts", type=int, nargs="+", default=list(SIZES), help="in a file")
    parser.add_argument("--rows", type=int, default=2000, help="rows that are made")
    parser.add_argument(
        "--repeat", type=int, default=1, help="runs of the command line for each number of prompts"
    )
    parser.add_argument(
        "--by", choices=WAYS, nargs="+", default=list(WAYS), help="which to measure"
    )
    parser.add_argument(
        "--resume", type=int, nargs="*", default=[], help="prompts of which 1 in 1,000 is left"
    )


def main(options: argparse.Namespace, console: Console) -> dict[str, list[dict[str, Any]]]:
    """Measure, print and return each size."""
    results: dict[str, list[dict[str, Any]]] = {}
    if "program" in options.by:
        results["program"] = [
            _own_process(__name__, prompts, options.rows) for prompts in options.prompts
        ]
        lines = [
            (
                f"{result['prompts']:,}",
                f"{result['first_s']:.1f}",
                f"{result['ms_per_row']:.1f}",
                f"{result['driver_bytes'] / 2**30:.2f}",
                f"{result['intake_bytes'] / 2**30:.2f}",
            )
            for result in results["program"]
        ]
        headings = ("prompts", "first rows s", "ms per row", "driver GiB", "intake GiB")
        console.print(table("a Dataset of prompts", headings, lines))
    if "command line" in options.by:
        results["command line"] = _command_line(options.prompts, options.rows, options.repeat) + [
            _resume(prompts) for prompts in options.resume
        ]
        console.print(_command_line_table(results["command line"]))
    return results


def _own_process(module: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _command_line(sizes: Sequence[int], rows: int, repeat: int) -> list[dict[str, Any]]:
    """Run each size so many times, in turns, and return the medians of each."""
    found: dict[int, list[dict[str, Any]]] = {prompts: [] for prompts in sizes}
    with tempfile.TemporaryDirectory(prefix="dataset-") as folder:
        for prompts in found:
            place = Path(folder) / str(prompts)
            place.mkdir()
            write_prompts(place / "prompts.parquet", prompts)
        os.sync()
        for _ in range(repeat):
            for prompts, runs in found.items():
                place = Path(folder) / str(prompts)
                runs.append(_own_process(STREAMED, place, rows))
                shutil.rmtree(place / "out")
                (place / "calls").unlink()
    return [medians(runs) | {"prompts": f"{prompts:,}"} for prompts, runs in found.items()]


def medians(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of each value over runs that have it, and the lowest and highest first clip."""
    middle: dict[str, Any] = {}
    for name in runs[0]:
        values = [run[name] for run in runs if run[name] is not None]
        middle[name] = statistics.median(values) if values else None
    after = [run["after_ready_s"] for run in runs]
    return middle | {"runs": len(runs), "after_ready_from_to_s": [min(after), max(after)]}


def _resume(prompts: int) -> dict[str, Any]:
    from jobs.benchmarks.prefixes.resume_cost import make_prefix

    with tempfile.TemporaryDirectory(prefix="dataset-") as folder:
        left = make_prefix(Path(folder), prompts, part_rows=10_000).left
        os.sync()
        found = _own_process(STREAMED, folder, 0)
    if found["ok"] != left:
        raise RuntimeError(f"{found['ok']} of {left} samples that were left ended ok")
    return medians([found]) | {"prompts": f"{prompts:,}, {left:,} left"}


def _command_line_table(results: list[dict[str, Any]]) -> Any:
    lines = [
        (
            result["prompts"],
            f"{result['first_s']:.1f}",
            f"{result['after_ready_s']:.3f}",
            "{:.3f} to {:.3f}".format(*result["after_ready_from_to_s"]),
            f"{result['ms_per_sample']:.2f}",
            f"{result['driver_bytes'] / 2**30:.2f}",
            f"{result['counted_s']:.1f}" if result["counted_s"] else "",
            f"{result['whole_s']:.1f}",
        )
        for result in results
    ]
    headings = (
        *("prompts", "first clip s", "of it after the engine is ready", "from to"),
        *("ms per sample", "driver GiB", "counted s", "run s"),
    )
    title = f"the command line, medians of {max(result['runs'] for result in results)} runs"
    return table(title, headings, lines)


def measure(prompts: int, rows: int) -> dict[str, Any]:
    """Read the first rows of a Dataset of so many prompts, on a private cluster."""
    import psutil
    import ray
    from ray import cloudpickle

    import pipeline
    from jobs.benchmarks.throughput import null_engine

    cloudpickle.register_pickle_by_value(null_engine)
    with tempfile.TemporaryDirectory(prefix="dataset-") as folder:
        source = Path(folder) / "prompts.parquet"
        write_prompts(source, prompts)
        ray.init(address="local", num_cpus=3, include_dashboard=False, logging_level=logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        settings = {
            "output": f"{folder}/clips",
            "batch_rows": 16,
            "replicas": 1,
            "device": "cpu",
            "scorers": ["none"],
            "cache": {"policy": "none"},
        }
        began = time.monotonic()
        made = pipeline.generate(str(source), settings, factory=null_engine.NullEngine)
        made.context.enable_progress_bars = False
        read = first = intake = 0
        first_s = 0.0
        for batch in made.iter_batches(batch_size=None, batch_format="pyarrow"):
            if not first:
                first, first_s = batch.num_rows, time.monotonic() - began
            read += batch.num_rows
            if read >= rows:
                below = psutil.Process().children(recursive=True)
                found = [each for each in below if "IntakeActor" in " ".join(each.cmdline())]
                intake = max((each.memory_info().rss for each in found), default=0)
                break
        rest_s = time.monotonic() - began - first_s
        ray.shutdown()
    return {
        "prompts": prompts,
        "rows": read,
        "first_s": first_s,
        "ms_per_row": rest_s / max(read - first, 1) * 1000,
        "driver_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "intake_bytes": intake,
    }


def write_prompts(path: Path, prompts: int) -> None:
    """Write a Parquet file of different prompts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, pa.schema([("prompt", pa.string())])) as writer:
        for start in range(0, prompts, CHUNK):
            some = range(start, min(start + CHUNK, prompts))
            writer.write_table(pa.table({"prompt": [f"prompt number {n}" for n in some]}))


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
