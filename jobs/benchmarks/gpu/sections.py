"""Sections with stated time bounds: in order, skipped where they do not fit, kept at once."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError

KEPT_CHARS = 1500
"""Of a traceback."""


@dataclass(frozen=True)
class MeasuredDevice:
    """The device of the measurements, and whether shapes are tiny.

    Attributes:
        device: A GPU if there is one.
        tiny: Small shapes, to try the sections themselves.
    """

    device: torch.device
    tiny: bool = False

    @classmethod
    def here(cls, *, tiny: bool) -> MeasuredDevice:
        """Take this machine's GPU, or its CPU.

        Raises:
            UserError: There is no GPU, and shapes are of full size.
        """
        if not torch.cuda.is_available() and not tiny:
            raise UserError("this process sees no GPU; --tiny tries the sections on a CPU")
        return cls(torch.device("cuda" if torch.cuda.is_available() else "cpu"), tiny)

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    def settle(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def timed(self, call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
        """Mean seconds of a call, and what the last one returned."""
        self.settle()
        began = time.perf_counter()
        for _ in range(repeats):
            made = call()
        self.settle()
        return (time.perf_counter() - began) / repeats, made

    def peaked(self, call: Callable[[], Any]) -> tuple[dict[str, float], Any]:
        """Seconds and peak memory of a call in GB, and what it returned."""
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        seconds, made = self.timed(call)
        figures = {"s": round(seconds, 4)}
        if self.on_gpu:
            figures["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
            figures["reserved_gb"] = round(torch.cuda.max_memory_reserved() / 1e9, 3)
        return figures, made

    def free(self) -> None:
        """Give back what earlier calls left."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Section:
    """One measurement.

    Attributes:
        name: Its name.
        bound_s: Longest time that it takes on an H100, in seconds.
        measure: Returns figures that JSON can hold.
    """

    name: str
    bound_s: float
    measure: Callable[[MeasuredDevice], dict[str, Any]]


def run_sections(
    sections: Sequence[Section],
    bench: MeasuredDevice,
    *,
    budget_s: float,
    only: Sequence[str] = (),
    out: str = "",
    say: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Measure the sections that fit, one after another; one that fails does not stop the others.

    Args:
        sections: In order.
        bench: The device.
        budget_s: A section begins only if its bound fits into what is left of this, seconds.
        only: Names of sections; empty for all.
        out: File that is written after each section; "" for none.
        say: Prints a line.
        clock: Seconds, rising.

    Returns:
        `sections` by name, each with its figures, `error` or `skipped`, and `total_s`.

    Raises:
        UserError: A name of `only` is unknown.
    """
    if unknown := set(only) - {section.name for section in sections}:
        names = ", ".join(section.name for section in sections)
        raise UserError(f"--only {', '.join(sorted(unknown))}: sections are {names}")
    began = clock()
    done: dict[str, dict[str, Any]] = {}
    result: dict[str, Any] = {"tiny": bench.tiny, "sections": done}
    for section in sections:
        if only and section.name not in only:
            continue
        start = clock()
        left = budget_s - (start - began)
        if left < section.bound_s:
            figures: dict[str, Any] = {"skipped": f"{left:.0f} s left, {section.bound_s:g} needed"}
        else:
            figures = _measured(section, bench)
            bench.free()
        done[section.name] = figures | {"section_s": round(clock() - start, 1)}
        result["total_s"] = round(clock() - began, 1)
        say(f"{section.name}: {json.dumps(done[section.name])}")
        if out:
            Path(out).write_text(json.dumps(result, indent=1) + "\n")
    return result


def _measured(section: Section, bench: MeasuredDevice) -> dict[str, Any]:
    try:
        return section.measure(bench)
    except Exception as error:  # noqa: BLE001 - it becomes the section's result
        return {"error": repr(error)[:500], "trace": traceback.format_exc()[-KEPT_CHARS:]}
