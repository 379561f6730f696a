"""What a person sees while a run goes on: counts, rate, ETA, reuse, money.

On a terminal one live line; elsewhere (job logs) a plain line every `LOG_EVERY_S` seconds. Numbers
come from output rows alone. Knows nothing of Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

LOG_EVERY_S = 10.0


@dataclass(slots=True)
class Tally:
    """Sums over the rows of one run.

    Attributes:
        ok: Clips made.
        failed: Samples given up after their last attempt.
        rejected: Input rows that could not become samples.
        gpu_s: Group-seconds of the ok and failed rows (wall x group size).
        video_s: Seconds of video made.
        nfe: Network evaluations, in steps.
        steps: Sampler steps.
        failed_attempts: Attempts of the ok and failed rows that failed.
    """

    ok: int = 0
    failed: int = 0
    rejected: int = 0
    gpu_s: float = 0.0
    video_s: float = 0.0
    nfe: int = 0
    steps: int = 0
    failed_attempts: int = 0

    def add(self, table: pa.Table) -> None:
        """Count a table of output rows (see `pipeline.schema.SCHEMA`)."""
        status = table["status"].to_pylist()
        ok = status.count("ok")
        self.ok += ok
        self.failed += status.count("failed")
        self.rejected += status.count("rejected")
        self.gpu_s += pc.sum(table["gpu_s"]).as_py() or 0.0
        self.video_s += pc.sum(table["duration_s"]).as_py() or 0.0
        nfe = pc.sum(pc.struct_field(table["cache"], "nfe")).as_py() or 0
        reused = pc.sum(pc.struct_field(table["cache"], "reused")).as_py() or 0
        self.nfe += nfe
        self.steps += nfe + reused
        self.failed_attempts += (pc.sum(table["attempts"]).as_py() or 0) - ok

    @property
    def made(self) -> int:
        """Samples that have their final row."""
        return self.ok + self.failed

    @property
    def reuse_ratio(self) -> float:
        """Reused / steps, 0 before the first step."""
        return 1 - self.nfe / self.steps if self.steps else 0.0


class Progress:
    """Shows a `Tally` growing towards a known total."""

    def __init__(
        self,
        total: int,
        tally: Tally,
        console: Console,
        *,
        gpu_price_per_hour: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the display; it starts with the `with` block.

        Args:
            total: Samples that this run will make.
            tally: Shared with the caller, who adds rows to it.
            console: Where to show it.
            gpu_price_per_hour: Dollars per GPU-hour; None shows GPU time instead of money.
            clock: Monotonic seconds.
        """
        self._total = total
        self._tally = tally
        self._console = console
        self._price = gpu_price_per_hour
        self._clock = clock
        self._began = self._said = clock()
        self._first: tuple[float, int] | None = None
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            console=console,
        )
        self._task = self._bar.add_task("clips", total=total)
        self._live = Live(
            get_renderable=self._screen, console=console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> Progress:
        """Start the display."""
        if self._console.is_terminal:
            self._live.start()
        else:
            self._console.print(f"loading the model, then {self._total} clips", highlight=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the display and leave a last line."""
        if self._console.is_terminal:
            self._live.stop()
        self._console.print(self.line(), highlight=False)

    def update(self) -> None:
        """Show the tally as it is now."""
        now = self._clock()
        if self._first is None and self._tally.made:
            self._first = (now, self._tally.made)
        if not self._console.is_terminal and now - self._said >= LOG_EVERY_S:
            self._said = now
            self._console.print(self.line(), highlight=False)

    def eta_s(self) -> float | None:
        """Seconds to go, None while unknown.

        Measured from the first finished rows on, so that loading the model does not count as speed.
        """
        if self._first is None:
            return None
        began, before = self._first
        done = self._tally.made - before
        elapsed = self._clock() - began
        if not done or not elapsed:
            # One batch so far: its whole time is the only rate known.
            done, elapsed = self._tally.made, self._clock() - self._began
        return (self._total - self._tally.made) * elapsed / done

    def line(self) -> str:
        """The state in one line of plain text."""
        tally = self._tally
        eta = self.eta_s()
        minutes = (self._clock() - self._began) / 60
        parts = [
            f"{tally.made}/{self._total} clips",
            f"{tally.ok / minutes:.1f} clips/min" if minutes else "0.0 clips/min",
            f"ETA {duration(eta)}" if eta is not None else "ETA -",
            f"reused {tally.reuse_ratio:.0%} of steps",
            self.money(),
        ]
        if tally.failed:
            parts.append(f"{tally.failed} failed")
        return " · ".join(parts)

    def money(self) -> str:
        """Spent so far: dollars where a price is known, else device time."""
        if self._price is None:
            return f"{duration(self._tally.gpu_s)} of device time"
        return f"${self._tally.gpu_s / 3600 * self._price:.4f} spent"

    def _screen(self) -> Table:
        self._bar.update(self._task, completed=self._tally.made)
        screen = Table.grid()
        screen.add_row(self._bar)
        screen.add_row(self.line())
        return screen


def duration(seconds: float) -> str:
    """Seconds as a person says them: `8 s`, `3 min 20 s`, `5 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
