"""What a person sees while a run goes on: counts, rate, ETA, reuse, money.

On a terminal one live line; elsewhere (job logs) a plain line every `LOG_EVERY_S` seconds. Numbers
come from output rows alone. Knows nothing of Ray.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

import pyarrow as pa
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from pipeline.monitoring.totals import RunTotals

LOG_EVERY_S = 10.0
QUIET_S = 60.0
GROUPS_SHOWN = 8
"""Of many groups those that have been silent longest."""


@dataclass(slots=True)
class GroupProgress:
    """One process that has given rows to this run.

    Attributes:
        node: Host name.
        began: Clock at its first row.
        last: Clock at its latest row.
        rows: Rows so far.
    """

    node: str
    began: float
    last: float
    rows: int = 0

    def state(self, now: float) -> str:
        """`working`, or `quiet` if it has been silent for much longer than it usually is."""
        usual = (self.last - self.began) / max(self.rows - 1, 1)
        quiet = now - self.last
        return "quiet" if self.rows > 1 and quiet > max(5 * usual, QUIET_S) else "working"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is; what the console shows and anything else may read.

    Attributes:
        made: Samples with their final row, controls included.
        total: Samples that the run will make.
        failed: Those of the made that failed.
        clips_per_s: Clips over the time since the run began to load.
        eta_s: Seconds to go, None while unknown.
        gpu_s: Device-seconds in rows, failed attempts included.
        dollars: Price of these, None without a price.
        dollars_projected: Of the whole run at this rate, None while unknown.
        reuse_ratio: Reused / steps.
        groups: Processes by id.
        waiting: Groups that have given no row yet: they load, or are at their first clip.
    """

    made: int
    total: int
    failed: int
    clips_per_s: float
    eta_s: float | None
    gpu_s: float
    dollars: float | None
    dollars_projected: float | None
    reuse_ratio: float
    groups: Mapping[str, GroupProgress]
    waiting: int

    @property
    def left(self) -> int:
        """Samples still to make."""
        return self.total - self.made


class RunProgress:
    """Shows a `RunTotals` growing towards a known total."""

    def __init__(
        self,
        total: int,
        totals: RunTotals,
        console: Console,
        *,
        gpu_price_per_hour: float | None = None,
        groups: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the display; it starts with the `with` block.

        Args:
            total: Samples that this run will make.
            totals: Shared with the caller, who adds rows to it.
            console: Where to show it.
            gpu_price_per_hour: Dollars per GPU-hour; None shows GPU time instead of money.
            groups: Groups that the run has asked for.
            clock: Monotonic seconds.
        """
        self._asked = groups
        self._groups: dict[str, GroupProgress] = {}
        self._total = total
        self._totals = totals
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

    def __enter__(self) -> RunProgress:
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
        self._console.print(self.line(), highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Leave a line above the display; from any thread."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def update(self, table: pa.Table | None = None) -> None:
        """Show the totals as it is now.

        Args:
            table: The rows that have just been counted; they tell which groups are at work.
        """
        now = self._clock()
        if table is not None:
            self._see(table, now)
        if self._first is None and self._totals.made:
            self._first = (now, self._totals.made)
        if not self._console.is_terminal and now - self._said >= LOG_EVERY_S:
            self._said = now
            self._console.print(self.line(), highlight=False, soft_wrap=True)

    def snapshot(self) -> Snapshot:
        """The state in numbers."""
        totals, price = self._totals, self._price
        elapsed = self._clock() - self._began
        gpu_s = sum(totals.spent.values())
        dollars = None if price is None else gpu_s / 3600 * price
        projected = dollars / totals.made * self._total if dollars and totals.made else None
        return Snapshot(
            made=totals.made,
            total=self._total,
            failed=totals.failed,
            clips_per_s=totals.ok / elapsed if elapsed > 0 else 0.0,
            eta_s=self.eta_s(),
            gpu_s=gpu_s,
            dollars=dollars,
            dollars_projected=projected,
            reuse_ratio=totals.reuse_ratio,
            groups=dict(self._groups),
            waiting=max(self._asked - len(self._groups), 0),
        )

    def eta_s(self) -> float | None:
        """Seconds to go, None while unknown.

        Measured from the first finished rows on, so that loading the model does not count as speed.
        """
        if self._first is None:
            return None
        began, before = self._first
        done = self._totals.made - before
        elapsed = self._clock() - began
        if not done or not elapsed:
            # One batch so far: its whole time is the only rate known.
            done, elapsed = self._totals.made, self._clock() - self._began
        return (self._total - self._totals.made) * elapsed / done

    def line(self) -> str:
        """The state in one line of plain text."""
        now, at = self._clock(), self.snapshot()
        parts = [
            f"{at.made}/{at.total} clips",
            rate(at.clips_per_s),
            f"ETA {duration(at.eta_s)}" if at.eta_s is not None else "ETA -",
            f"reused {at.reuse_ratio:.0%} of steps",
            self.money(at),
        ]
        if at.failed:
            parts.append(f"{at.failed} failed")
        states = Counter(group.state(now) for group in at.groups.values())
        states["waiting for a first clip"] = at.waiting
        if len(at.groups) + at.waiting > 1:
            said = (f"{count} {state}" for state, count in states.items() if count)
            parts.append("groups: " + ", ".join(said))
        return " · ".join(parts)

    @staticmethod
    def money(at: Snapshot) -> str:
        """Spent so far: dollars where a price is known, else device time."""
        if at.dollars is None:
            return f"{duration(at.gpu_s)} of device time"
        projected = at.dollars_projected
        return f"${at.dollars:.4f} spent" + (f" of ${projected:.4f}" if projected else "")

    def _see(self, table: pa.Table, now: float) -> None:
        for worker in table["worker"].to_pylist():
            if worker:
                group = self._groups.setdefault(
                    worker["id"], GroupProgress(worker["node"], now, now)
                )
                group.rows, group.last = group.rows + 1, now

    def _screen(self) -> Table:
        self._bar.update(self._task, completed=self._totals.made)
        screen = Table.grid()
        screen.add_row(self._bar)
        screen.add_row(self.line())
        now = self._clock()
        latest = sorted(self._groups.items(), key=lambda item: item[1].last)[:GROUPS_SHOWN]
        for name, group in latest:
            screen.add_row(
                f"  {group.node} {name}: {group.rows} rows, {group.state(now)}, last "
                f"{duration(now - group.last)} ago",
                style="dim",
            )
        if len(self._groups) > GROUPS_SHOWN:
            screen.add_row(f"  and {len(self._groups) - GROUPS_SHOWN} more groups", style="dim")
        return screen


def rate(clips_per_s: float) -> str:
    """Clips per second, or per minute or hour where that is easier to read."""
    for unit, seconds in (("s", 1), ("min", 60)):
        if clips_per_s * seconds >= 1:
            return f"{clips_per_s * seconds:.1f} clips/{unit}"
    return f"{clips_per_s * 3600:.1f} clips/h"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `8 s`, `3 min 20 s`, `5 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
