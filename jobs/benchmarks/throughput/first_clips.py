"""`first-clips`: what it costs a run to measure its own profile on its first clips.

Runs of the embedded model, with the shipped profile and without one, take turns on one cluster. The
first uncached clips of a run without a profile are clips of the dataset. What they take longer than
cached clips is the price that was foreseen; the rest of the difference is waiting and overhead.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.benchmarks.tables import table
from pipeline.errors import UserError

HELP = "wall time of runs that measure their own profile, against runs that are given one"


@dataclass(frozen=True)
class TimedRun:
    """One run.

    Attributes:
        source: Where the profile came from, `shipped` or `own`.
        wall_s: From the start of the run to its last row, loading included.
        first_s: Engine seconds of the clips that measured the profile.
        first: Number of these.
        others_s: Mean engine seconds of the other clips.
    """

    source: str
    wall_s: float
    first_s: float
    first: int
    others_s: float

    @property
    def foreseen_s(self) -> float:
        """What the first clips take longer than cached ones, in engine seconds."""
        return self.first_s - self.first * self.others_s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind, in turns")
    parser.add_argument("--replicas", type=int, default=2)


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return every run.

    Raises:
        UserError: There are too few captions.
    """
    from jobs.benchmarks.quality.splits import HELD_OUT, demo_captions
    from pipeline.cluster.connection import connected

    captions = demo_captions(HELD_OUT)
    if not options.clips >= 8:
        raise UserError(f"--clips {options.clips}: a run of fewer than 8 measures no profile")
    # Captions repeat with other seeds, as samples of one prompt.
    copies = -(-options.clips // len(captions))
    runs: list[TimedRun] = []
    with tempfile.TemporaryDirectory() as folder, connected():
        prompts = Path(folder) / "prompts.txt"
        prompts.write_text("\n".join(captions[: -(-options.clips // copies)]) + "\n")
        for number in range(options.repeats):
            for source in ("shipped", "own"):
                output = Path(folder) / f"{source}-{number}"
                runs.append(_timed(source, prompts, output, copies, options.replicas))
                console.print(asdict(runs[-1]))
    found = summary(runs, options.replicas)
    console.print(
        table(
            f"{options.clips} clips, {options.replicas} groups, median of {options.repeats}",
            ("profile", "wall s", "more than shipped, s", "foreseen by the first clips, s"),
            [
                ("shipped", f"{found['shipped_s']:.1f}", "", ""),
                (
                    "own",
                    f"{found['own_s']:.1f}",
                    f"{found['more_s']:+.1f}",
                    f"{found['foreseen_s']:.1f} to {found['foreseen_most_s']:.1f}",
                ),
            ],
        )
    )
    return {"clips": options.clips, "runs": [asdict(run) for run in runs], **found}


def summary(runs: Sequence[TimedRun], groups: int) -> dict[str, float]:
    """Medians of both kinds, and what the first clips themselves add.

    All groups wait for the first clips. So these add between their own extra seconds, shared by
    the groups, and the extra seconds of one group that makes its part of them while all wait.
    """
    by_source = {
        source: [run for run in runs if run.source == source] for source in ("shipped", "own")
    }
    wall = {name: statistics.median(run.wall_s for run in some) for name, some in by_source.items()}
    foreseen = statistics.median(run.foreseen_s for run in by_source["own"])
    waits = statistics.median(
        run.first_s / run.first * -(-run.first // groups) for run in by_source["own"]
    )
    return {
        "shipped_s": wall["shipped"],
        "own_s": wall["own"],
        "more_s": wall["own"] - wall["shipped"],
        "foreseen_s": foreseen / groups,
        "foreseen_most_s": max(waits, foreseen / groups),
    }


def _timed(source: str, prompts: Path, output: Path, copies: int, replicas: int) -> TimedRun:
    import pyarrow.dataset as ds

    from pipeline.config.run_config import RunConfig
    from pipeline.run import run

    config = RunConfig.model_validate(
        {
            "prompts": str(prompts),
            "output": str(output),
            "samples_per_prompt": copies,
            "replicas": replicas,
            "report": False,
            "contact_sheet": False,
            "scorers": ["none"],
            "cache": {"profile": "own"} if source == "own" else {},
        }
    )
    began = time.monotonic()
    run(config, console=Console(file=io.StringIO()))
    wall_s = time.monotonic() - began
    rows = ds.dataset(output / "data").to_table(columns=["wall_s", "cache"]).to_pylist()
    first = [row["wall_s"] for row in rows if row["cache"]["policy"] == "none"]
    others = [row["wall_s"] for row in rows if row["cache"]["policy"] != "none"]
    return TimedRun(source, wall_s, sum(first), len(first), statistics.fmean(others))
