"""`groups`: the same devices as many small groups or as few large groups.

It shows which layout makes the most clips per second, and which makes one clip the soonest. Every
group is a process with its own devices, like an actor. All groups of a layout start and work at the
same time. Ray and storage take no part.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jobs.benchmarks.tables import table
from jobs.benchmarks.throughput.core_sets import allowed, bind
from pipeline.errors import UserError
from pipeline.models.registry import get_model

if TYPE_CHECKING:
    from pipeline.engine.protocol import EngineFactory
    from pipeline.requests.sample_request import SampleRequest

HELP = "clips/s and seconds per clip of (groups x devices) layouts of the same devices"

Batches = list[list["SampleRequest"]]


@dataclass(frozen=True)
class GroupLayout:
    """The numbers of a layout, or why it is refused.

    Attributes:
        groups: Number of groups.
        degree: Devices of each group.
        clips: Clips made by all groups.
        clips_per_s: All clips / seconds from the common start to the last end.
        latency_s: Median seconds of an engine call: the time of a clip from start to end.
        peak_memory_bytes: Largest peak of any call, of the first rank.
        refused: Why the model cannot be split so, "" if it can.
        cfg: 2 if each half of a group's devices computes one branch of guidance.
    """

    groups: int
    degree: int
    clips: int = 0
    clips_per_s: float = 0.0
    latency_s: float = 0.0
    peak_memory_bytes: int = 0
    refused: str = ""
    cfg: int = 1

    def __str__(self) -> str:
        return f"{self.groups} x {self.degree}{', cfg 2' if self.cfg > 1 else ''}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--model", default="demo")
    parser.add_argument("--model-path", default="", help="local folder or s3:// mirror")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--devices", type=int, default=2, help="GPUs, or cores where on the CPU")
    parser.add_argument("--batch", type=int, default=1, help="clips per engine call")
    parser.add_argument("--budget", type=float, default=1.0, help="as --cache.budget; 1: no cache")
    parser.add_argument("--steps", type=int, help="sampler steps; the model's own if left out")
    parser.add_argument("--calls", type=int, default=8, help="engine calls, shared out to groups")


def main(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measure, print and return the layouts.

    Raises:
        UserError: The options leave nothing to compare.
    """
    if options.devices < 2:
        raise UserError(f"--devices {options.devices}: layouts differ from 2 devices on")
    if options.device == "cpu" and options.devices > (cores := len(allowed())):
        raise UserError(f"--devices {options.devices}: this process may use {cores} cores")
    if options.calls < options.devices:
        raise UserError(f"--calls {options.calls}: at least one for each of {options.devices}")
    degrees = [p for p in range(1, options.devices + 1) if options.devices % p == 0]
    guided = not get_model(options.model).pipeline.distilled_guidance
    layouts = [
        _measure(options, degree, cfg)
        for degree in degrees
        for cfg in ((1, 2) if guided and degree % 2 == 0 else (1,))
    ]
    title = (
        f"{options.model} on {options.devices} {'GPUs' if options.device == 'cuda' else 'cores'}, "
        f"{options.batch} clips per call, budget {options.budget}"
    )
    headings = ("groups x P", "clips/s", "s per call", "of the best rate", "peak GiB")
    console.print(table(title, headings, _rows(layouts), _advice(layouts)))
    return [asdict(layout) for layout in layouts]


def _rows(layouts: Sequence[GroupLayout]) -> list[tuple[str, ...]]:
    best = max(layout.clips_per_s for layout in layouts)
    return [
        (str(each), "refused", "", "", "")
        if each.refused
        else (
            str(each),
            f"{each.clips_per_s:.3f}",
            f"{each.latency_s:.2f}",
            f"{each.clips_per_s / best:.2f}",
            f"{each.peak_memory_bytes / 2**30:.1f}",
        )
        for each in layouts
    ]


def _advice(layouts: Sequence[GroupLayout]) -> str:
    """Return which layout to use for which purpose."""
    able = [layout for layout in layouts if not layout.refused]
    lines = [f"{each}: {each.refused}" for each in layouts if each.refused]
    if able:
        rate = max(able, key=lambda each: each.clips_per_s)
        soon = min(able, key=lambda each: each.latency_s)
        lines.append(
            f"For throughput: {_flags(rate)}. For a clip as soon as possible: {_flags(soon)}."
        )
    return "\n".join(lines)


def _flags(layout: GroupLayout) -> str:
    cfg = f" --parallel.cfg {layout.cfg}" if layout.cfg > 1 else ""
    return f"--parallel.degree {layout.degree}{cfg} --replicas {layout.groups}"


def _measure(options: argparse.Namespace, degree: int, cfg: int) -> GroupLayout:
    from jobs.benchmarks.throughput.efficiency import requests_of
    from pipeline.config.run_config import RunConfig
    from pipeline.engine.factory import engine_factory
    from pipeline.models.resolve import resolve_model

    groups = options.devices // degree
    calls = -(-options.calls // groups)
    with tempfile.TemporaryDirectory(prefix="groups-") as folder:
        prompts = Path(folder) / "prompts.txt"
        count = (calls + 1) * groups * options.batch
        texts = (f"a red circle moving left, take {n}\n" for n in range(count))
        prompts.write_text("".join(texts))
        config = RunConfig.model_validate(
            {
                "prompts": str(prompts),
                "output": str(Path(folder) / "out"),
                "model": options.model,
                "model_path": options.model_path,
                "device": options.device,
                "cache": {"policy": "none"}
                if options.budget == 1
                else {"policy": "planned", "budget": options.budget},
                "sampling": {"num_inference_steps": options.steps},
                "parallel": {"degree": degree, "cfg": cfg},
            }
        )
        model = resolve_model(config.model, config.model_path)
        requests = requests_of(config, model)
        batches = [
            requests[start : start + options.batch]
            for start in range(0, len(requests), options.batch)
        ]
        threads = degree if options.device == "cpu" else 0
        try:
            factory = engine_factory(config, model, device=options.device, threads=threads)
            shares = [batches[group::groups] for group in range(groups)]
            return replace(_run(factory, options.device, degree, shares), cfg=cfg)
        except UserError as error:
            return GroupLayout(groups, degree, refused=str(error), cfg=cfg)


def _run(
    factory: EngineFactory, device: str, degree: int, shares: Sequence[Batches]
) -> GroupLayout:
    """Run all groups at once; the first batch of each warms it up.

    Raises:
        UserError: The model cannot be split so.
    """
    spawn = multiprocessing.get_context("spawn")
    ends, processes = [], []
    for group, share in enumerate(shares):
        ours, theirs = spawn.Pipe()
        own = list(range(group * degree, (group + 1) * degree))
        process = spawn.Process(target=_group, args=(theirs, factory, device, own, share))
        process.start()
        theirs.close()
        ends.append(ours)
        processes.append(process)
    try:
        for end in ends:
            if problem := end.recv():
                raise UserError(problem)
        began = time.time()
        for end in ends:
            end.send("go")
        calls = [call for end in ends for call in end.recv()]
    except EOFError as error:
        raise RuntimeError("a group died; its output is above") from error
    finally:
        for end in ends:
            end.close()
        for process in processes:
            process.join()
    clips = sum(count for _, _, count, _ in calls)
    return GroupLayout(
        groups=len(shares),
        degree=degree,
        clips=clips,
        clips_per_s=clips / (max(ended for _, ended, _, _ in calls) - began),
        latency_s=statistics.median(ended - started for started, ended, _, _ in calls),
        peak_memory_bytes=max(peak for _, _, _, peak in calls),
    )


def _group(
    parent: Connection, factory: EngineFactory, device: str, own: list[int], share: Batches
) -> None:
    """Run one group's process: load, warm up, wait for the start, work, send the calls."""
    if device == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in own)
    else:
        cores = allowed()
        bind([cores[index] for index in own])
    try:
        engine = factory()
        engine.generate(share[0])
    except UserError as error:
        parent.send(str(error))
        return
    try:
        parent.send("")
        parent.recv()
        calls = []
        for batch in share[1:]:
            began = time.time()
            clips = engine.generate(batch)
            peak = max(clip.peak_memory_bytes for clip in clips)
            calls.append((began, time.time(), len(clips), peak))
        parent.send(calls)
    except (EOFError, OSError):
        pass  # the parent has given up
    finally:
        engine.close()
