"""`decode-beside`: how long the networks wait for the decoder, with the decode inside and beside.

The embedded model samples on the CPU. A wait stands for its decoder, which gives the frames of the
first clip again, so the networks lose no core to it. So the numbers say what the order of the work
is worth at most. On one GPU a decode and a step also compete for it, which only a GPU can measure.

Beside the measured shares stand those of a simulation, in which steps and decodes take their mean
times and nothing else takes any; and those of the simulation with the times of a real model.
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
MANY = 100
"""Clips of a simulation: what the first and the last one do no longer counts."""


@dataclass(frozen=True)
class Measured:
    """Clips made one after another by one engine.

    Attributes:
        evaluations: Steps of each clip whose network ran.
        decode: `inline` or `beside`.
        seconds: From the first clip's start to the last clip's end.
        idle: Share of these in which the networks did not run.
        simulated: The same, by `simulated_idle`.
    """

    evaluations: int
    decode: str
    seconds: float
    idle: float
    simulated: float


def simulated_idle(evaluations: float, decode: float, clips: int, *, beside: bool) -> float:
    """Share of time in which the networks wait, from the first clip's start to the last one's end.

    Args:
        evaluations: Steps of a clip whose network runs.
        decode: Time of a decode, in steps.
        clips: Clips, one after another.
        beside: Whether a clip is decoded while the next one is sampled. One decode at a time: the
            networks wait for the one before it.
    """
    networks_free, decoder_free = 0.0, 0.0
    for _ in range(clips):
        sampled = networks_free + evaluations
        # A clip passes the networks on when the decoder takes it.
        begins = max(sampled, decoder_free)
        decoder_free = begins + decode
        networks_free = begins if beside else decoder_free
    return 1.0 - clips * evaluations / decoder_free


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
    measured, step_s, decode_s = _measure(options.clips, options.decode_steps)
    decode = decode_s / step_s
    rows = []
    for inside, beside in zip(measured[::2], measured[1::2], strict=True):
        real = [
            simulated_idle(inside.evaluations, WAN_DECODE_S / WAN_STEP_S, MANY, beside=each)
            for each in (False, True)
        ]
        rows.append(
            (
                str(inside.evaluations),
                f"{inside.idle:.0%} ({inside.simulated:.0%})",
                f"{beside.idle:.0%} ({beside.simulated:.0%})",
                f"{inside.seconds / beside.seconds:.2f}",
                f"{real[0]:.0%}",
                f"{real[1]:.0%}",
                f"{(1 - real[1]) / (1 - real[0]):.2f}",
            )
        )
    headings = (
        *("evaluations", "idle, inside (simulated)", "idle, beside (simulated)", "times as fast"),
        *("Wan: idle, inside", "beside", "times as fast"),
    )
    title = f"{options.clips} clips, a decode took {decode:.1f} steps"
    caption = (
        f"Wan: simulated, {MANY} clips of Wan 2.1 1.3B at 480p, a decode of "
        f"{WAN_DECODE_S / WAN_STEP_S:.2f} steps as on an H200"
    )
    console.print(table(title, headings, rows, caption))
    return {
        "decode_steps": decode,
        "step_s": step_s,
        "clips": options.clips,
        "rows": [asdict(each) for each in measured],
    }


def _measure(clips: int, decode_steps: float) -> tuple[list[Measured], float, float]:
    """Rows in pairs (inside, beside) and the seconds of a step and of a decode."""
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
    decoder = _StandInDecoder()
    for name, engine in engines.items():
        pipe: Any = engine._pipe
        pipe.transformer.forward = running[name].timed(pipe.transformer.forward)
        pipe.vae.decode = decoder.instead_of(pipe.vae.decode)
    alone = [dataclasses.replace(plain, prompt=captions[0], seed=seed) for seed in range(2)]
    for engine in engines.values():  # the first call loads kernels
        engine.generate([dataclasses.replace(alone[0], num_inference_steps=4)])
    before = running["inline"].seconds
    decoder.seconds.clear()
    engines["inline"].generate(alone[:1])
    step_s = (running["inline"].seconds - before) / 50
    decoder.wait_s = decode_steps * step_s
    decoder.seconds.clear()
    measured = []
    for evaluations, request in kinds.items():
        requests = [
            dataclasses.replace(request, prompt=captions[n % len(captions)], seed=n)
            for n in range(clips)
        ]
        for name, engine in engines.items():
            before, decoded = running[name].seconds, len(decoder.seconds)
            began = time.monotonic()
            with ThreadPoolExecutor(2 if name == "beside" else 1) as threads:
                list(threads.map(lambda each, make=engine.generate: make([each]), requests))
            seconds = time.monotonic() - began
            ran = running[name].seconds - before
            own = decoder.seconds[decoded:]
            decode = sum(own) / len(own) / (ran / clips / evaluations)
            simulated = simulated_idle(evaluations, decode, clips, beside=name == "beside")
            measured.append(Measured(evaluations, name, seconds, 1.0 - ran / seconds, simulated))
    return measured, step_s, sum(decoder.seconds) / len(decoder.seconds)


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


class _StandInDecoder:
    """A decoder that decodes once, and then waits and gives the same frames again.

    Attributes:
        wait_s: Seconds of each decode but the first.
        seconds: Of each decode so far.
    """

    def __init__(self) -> None:
        self.wait_s = 0.0
        self.seconds: list[float] = []
        self._frames: Any = None

    def instead_of(self, decode: Callable[..., Any]) -> Callable[..., Any]:
        """The method to put in place of a decoder's own."""

        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            if self._frames is None:
                self._frames = decode(*args, **kwargs)
            else:
                time.sleep(self.wait_s)
            self.seconds.append(time.monotonic() - began)
            return tuple(each.clone() for each in self._frames)

        return run
