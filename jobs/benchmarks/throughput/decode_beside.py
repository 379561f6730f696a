"""`decode-beside`: how long the networks wait for the decoder, with the decode inside and beside.

The embedded model samples on the CPU. Its decoder is followed by a wait that stands for a decoder
of its own device: the networks lose no time to it. So the numbers say what the order of the work
is worth at most. On one GPU a decode and a step also compete for it, which only a GPU can measure.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from jobs.benchmarks.tables import table
from pipeline.errors import UserError

HELP = "share of time in which the networks wait for the decoder, with the decode inside and beside"

WAN_STEP_S, WAN_DECODE_S = 1.25, 2.80
"""Seconds of a step (both branches) and of a decode of Wan 2.1 1.3B at 480p on an H200
(docs/gpu.md)."""


@dataclass(frozen=True)
class Measured:
    """Clips made one after another by one engine.

    Attributes:
        evaluations: Steps of each clip whose network ran.
        decode: `inline` or `beside`.
        seconds: From the first clip's start to the last clip's end.
        idle: Share of these in which the networks did not run.
    """

    evaluations: int
    decode: str
    seconds: float
    idle: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--clips", type=int, default=8, help="clips of each row of the table")
    parser.add_argument(
        "--decode-steps",
        type=float,
        default=WAN_DECODE_S / WAN_STEP_S,
        help="time of a decode, in steps; default that of Wan 2.1 1.3B at 480p on an H200",
    )


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return every row.

    Raises:
        UserError: There is less than one clip.
    """
    if options.clips < 1:
        raise UserError(f"--clips {options.clips}: must be at least 1")
    measured, step_s = _measure(options.clips, options.decode_steps)
    decode_s = options.decode_steps * step_s
    rows = []
    for inside, beside in zip(measured[::2], measured[1::2], strict=True):
        sampling = inside.evaluations * step_s
        foreseen = (sampling + decode_s) / max(sampling, decode_s)
        gain = inside.seconds / beside.seconds
        rows.append(
            (
                str(inside.evaluations),
                f"{inside.idle:.0%}",
                f"{beside.idle:.0%}",
                f"{gain:.2f}",
                f"{foreseen:.2f}",
            )
        )
    headings = ("evaluations", "idle, inside", "idle, beside", "times as fast", "at most, foreseen")
    title = f"{options.clips} clips, a decode takes {options.decode_steps:.2f} steps"
    console.print(table(title, headings, rows))
    return {
        "decode_steps": options.decode_steps,
        "step_s": step_s,
        "clips": options.clips,
        "rows": [asdict(each) for each in measured],
    }


def _measure(clips: int, decode_steps: float) -> tuple[list[Measured], float]:
    """Rows in pairs (inside, beside) and the seconds of a step, all in this process."""
    import torch

    from jobs.benchmarks.quality.splits import HELD_OUT, demo_captions
    from pipeline.config.run_config import RunConfig
    from pipeline.engine.diffusers_engine import load_engine
    from pipeline.models.engine_options import EngineOptions
    from pipeline.models.resolve import model_of
    from pipeline.requests.defaults import request_defaults
    from pipeline.requests.sample_request import CacheIdentity

    torch.set_num_threads(1)
    config = RunConfig.model_validate({"prompts": "-", "output": "-"})
    model = model_of(config)
    defaults = request_defaults(config, model)
    profile, template = defaults.chosen.profile, defaults.template
    text = profile.to_json() if profile else ""
    captions = demo_captions(HELD_OUT)
    plain = dataclasses.replace(template, cache=CacheIdentity())
    kinds = {
        50: plain,
        17: template,
        4: dataclasses.replace(plain, num_inference_steps=4),
    }
    engines = {
        decode: load_engine(
            model,
            device="cpu",
            profile_json=text,
            options=EngineOptions(decode_beside=decode == "beside"),
        )
        for decode in ("inline", "beside")
    }
    running = {name: _Running() for name in engines}
    wait_s = [0.0]
    for name, engine in engines.items():
        pipe: Any = engine._pipe
        pipe.transformer.forward = running[name].timed(pipe.transformer.forward)
        pipe.vae.decode = _slowed(pipe.vae.decode, wait_s)
    alone = [dataclasses.replace(plain, prompt=captions[0], seed=seed) for seed in range(2)]
    began = time.monotonic()
    engines["inline"].generate(alone[:1])
    step_s = running["inline"].seconds / 50
    wait_s[0] = max(0.0, decode_steps * step_s - (time.monotonic() - began - 50 * step_s))
    engines["beside"].generate(alone[1:])
    measured = []
    for evaluations, request in kinds.items():
        requests = [
            dataclasses.replace(request, prompt=captions[n % len(captions)], seed=n)
            for n in range(clips)
        ]
        for name, engine in engines.items():
            before, began = running[name].seconds, time.monotonic()
            with ThreadPoolExecutor(2 if name == "beside" else 1) as threads:
                list(threads.map(lambda each, make=engine.generate: make([each]), requests))
            seconds = time.monotonic() - began
            idle = 1.0 - (running[name].seconds - before) / seconds
            measured.append(Measured(evaluations, name, seconds, idle))
    return measured, step_s


class _Running:
    """Seconds in which a network ran."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A forward that is counted; calls do not overlap."""

        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            try:
                return forward(*args, **kwargs)
            finally:
                self.seconds += time.monotonic() - began

        return run


def _slowed(decode: Callable[..., Any], wait_s: list[float]) -> Callable[..., Any]:
    """A decode that takes some seconds longer without using a core."""

    def run(*args: Any, **kwargs: Any) -> Any:
        found = decode(*args, **kwargs)
        time.sleep(wait_s[0])
        return found

    return run
