"""Sections about the denoising loop of Wan 2.1 1.3B at 480p, with random weights."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from jobs.benchmarks.gpu.sections import MeasuredDevice
from jobs.benchmarks.sampling.denoising_loop import Arm, DenoisingLoop
from jobs.benchmarks.sampling.random_weights import constant_profile, random_loop
from pipeline.models.demo import WEIGHTS_DIR
from pipeline.models.registry import get_model
from sencache import SenCacheConfig, SensitivityProfile
from sencache.policies.sensitivity_rule import SensitivityRule, Verdict

MODEL = "wan2.1-t2v-1.3b"
PROFILE = WEIGHTS_DIR.parent / "profile.json"
"""Of the embedded model; its drift plans the loops too."""

TINY = {"height": 32, "width": 32, "num_frames": 5, "layers": 1, "text_tokens": 16}
PAPER = SenCacheConfig(policy="paper", epsilon=1e9, max_reuse=2, strict_fraction=0.0)
STEPS, FEW_STEPS, TINY_STEPS = 10, 6, 5
SHORT = {"height": 256, "width": 256, "num_frames": 17}
"""A clip of a 25th of the tokens of one at 480p."""
MOST_ROWS = 8


def batch_of_one(bench: MeasuredDevice) -> dict[str, Any]:
    """Every way to run the loop with one row."""
    return _arms_of(bench, *loop_of(bench, 1, TINY_STEPS if bench.tiny else STEPS))


def batch_of_two(bench: MeasuredDevice) -> dict[str, Any]:
    """The same with two rows, with rows that decide differently, and with rows of short clips."""
    loop, profile = loop_of(bench, 2, TINY_STEPS if bench.tiny else FEW_STEPS)
    return _arms_of(bench, loop, profile) | {"short clips": short_clips(bench, loop)}


def short_clips(bench: MeasuredDevice, loop: DenoisingLoop) -> dict[str, Any]:
    """Clips a second of one step, by the number of short clips in a call.

    It shows where a call is full: `--batch-rows auto` takes a call to be full at the tokens of one
    clip of Wan at 480p (docs/gpu.md), which holds 25 of these.
    """
    size = {name: TINY[name] for name in SHORT} if bench.tiny else SHORT
    made: dict[str, Any] = {}
    rows = 1
    while rows <= MOST_ROWS:
        call = dataclasses.replace(
            loop,
            settings={**loop.settings, **size},
            embeddings={
                name: value[:1].repeat(rows, *[1] * (value.ndim - 1))
                for name, value in loop.embeddings.items()
            },
            seeds=tuple(range(rows)),
            steps=2,
        )
        call.run(Arm("warm-up"))
        seconds, _ = bench.timed(functools.partial(call.run, Arm("no hook")))
        made[f"{rows} rows"] = round(call.steps * rows / seconds, 2)
        rows *= 2
    return made


def waits(bench: MeasuredDevice) -> dict[str, Any]:
    """Waits of the host for the device in a run of five steps, by source line."""
    loop, profile = loop_of(bench, 2, TINY_STEPS, **({} if bench.tiny else {"layers": 4}))
    made: dict[str, Any] = {}
    for arm in ways(profile)[:-1]:
        loop.run(arm)
        if bench.on_gpu:
            made[arm.name] = _waits_of(loop, arm)
    return made


def compiled(bench: MeasuredDevice) -> dict[str, Any]:
    """Seconds of the first step, of further steps, and of a change of the rows within a run."""
    loop, profile = loop_of(bench, 2, TINY_STEPS if bench.tiny else FEW_STEPS)
    if bench.tiny and not bench.on_gpu:
        return {"left out": "a compiler for CPUs takes minutes"}
    for block in loop.networks[0].blocks:  # type: ignore[union-attr]
        block.compile()
    one = loop.take(0, 1)
    made: dict[str, Any] = {}
    made["batch 2, first step"] = bench.timed(lambda: loop.shorter(1).run(Arm("")))[0]
    made["batch 2"] = bench.timed(lambda: loop.run(Arm("no hook")))[0]
    mixed = Arm("mixed", PAPER, profile)
    with rows_take_turns():
        made["batch 2, rows change, first run"] = bench.timed(lambda: loop.run(mixed))[0]
        made["batch 2, rows change"] = bench.timed(lambda: loop.run(mixed))[0]
    made["batch 1"] = bench.timed(lambda: one.run(Arm("no hook")))[0]
    return made


def loop_of(
    bench: MeasuredDevice, rows: int, steps: int, **settings: Any
) -> tuple[DenoisingLoop, SensitivityProfile]:
    """The loop, and a profile by which only the cap on reuses, or a plan, decides."""
    spec = get_model(MODEL)
    size = (TINY if bench.tiny else {}) | settings
    loop = random_loop(spec, rows, bench.device, steps=steps, **size)
    drift = SensitivityProfile.from_json(PROFILE.read_text()).drift
    return loop, dataclasses.replace(constant_profile(spec, loop), drift=drift)


def ways(profile: SensitivityProfile) -> list[Arm]:
    """The loop without a hook twice, to show how much two equal runs differ, and with caches."""
    return [
        Arm("no hook"),
        Arm("policy none", SenCacheConfig(policy="none")),
        Arm("paper", PAPER, profile),
        Arm("planned", SenCacheConfig(policy="planned", budget=0.34), profile),
        Arm("residual", dataclasses.replace(PAPER, reuse="residual"), profile),
        Arm("no hook (2)"),
    ]


@contextlib.contextmanager
def rows_take_turns() -> Iterator[None]:
    """Within the block, odd and even rows compute in turn: every step gathers and scatters."""
    before, calls = SensitivityRule.verdict, [0]

    def verdict(self: SensitivityRule, *args: Any, **kwargs: Any) -> Verdict:
        found = before(self, *args, **kwargs)
        calls[0] += 1
        if found.all_compute:
            return found
        turn = torch.arange(len(found.compute), device=found.compute.device) % 2
        return dataclasses.replace(found, compute=turn == calls[0] % 2)

    SensitivityRule.verdict = verdict  # type: ignore[method-assign]
    try:
        yield
    finally:
        SensitivityRule.verdict = before  # type: ignore[method-assign]


def _arms_of(
    bench: MeasuredDevice, loop: DenoisingLoop, profile: SensitivityProfile
) -> dict[str, Any]:
    loop.shorter(2).run(Arm("warm-up"))
    made: dict[str, Any] = {}
    for arm in ways(profile):
        figures, run = bench.peaked(functools.partial(loop.run, arm))
        made[arm.name] = figures | {"nfe": run.nfe}
    if len(loop.seeds) > 1:
        with rows_take_turns():
            figures, run = bench.peaked(lambda: loop.run(Arm("mixed", PAPER, profile)))
        made["rows take turns"] = figures | {"nfe": run.nfe, "decisions": run.decisions}
    return made


def _waits_of(loop: DenoisingLoop, arm: Arm) -> dict[str, Any]:
    """Waits of one run: all, those of this project, and the lines with most of them."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            loop.run(arm)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    at = collections.Counter(
        f"{each.filename.rpartition('site-packages/')[2]}:{each.lineno}"
        for each in seen
        if "synchroniz" in str(each.message)
    )
    ours = sum(count for line, count in at.items() if "/sencache/" in line or "/pipeline/" in line)
    return {"all": sum(at.values()), "ours": ours, "most": at.most_common(6)}
