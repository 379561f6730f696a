"""The progress of a run on the console: counts, rate, ETA, reuse, cost.

A live display on a terminal; elsewhere (job logs) a plain line every `LOG_EVERY_S` seconds. All
numbers come from output rows. Knows nothing of Ray.
"""

from __future__ import annotations

import math
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

from pipeline.monitoring.console import say, text_of
from pipeline.monitoring.group_progress import GroupProgress
from pipeline.monitoring.row_lines import say_news
from pipeline.monitoring.totals import RunTotals
from pipeline.wording import counted, dollars, rate

LOG_EVERY_S = 10.0
GROUPS_SHOWN = 8
"""Most groups that the display lists: those that have been silent longest."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The progress of a run in numbers.

    Attributes:
        made: Samples with their final row, controls included.
        total: Samples that the run will make.
        failed: Samples among these that failed.
        clips_per_s: Clips over the time since the run began to load.
        eta_s: Seconds to go, None while unknown.
        gpu_s: Device-seconds of the rows so far, failed attempts included.
        dollars: Price of these device-seconds, None without a price per hour.
        dollars_projected: Price of the whole run at this rate, None while unknown.
        reuse_ratio: Reused / steps of clips that are no controls; None before the first.
        controls: Finished ones.
        groups: Processes that can still be there, by id.
        waiting: Groups without a row so far: they load, or make their first clip.
    """

    made: int
    total: int
    failed: int
    clips_per_s: float
    eta_s: float | None
    gpu_s: float
    dollars: float | None
    dollars_projected: float | None
    reuse_ratio: float | None
    controls: int
    groups: Mapping[str, GroupProgress]
    waiting: int


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
        redraws: int = 0,
        is_exact: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the display; it starts with the `with` block.

        Args:
            total: Samples that this run will make.
            totals: Shared with the caller, who adds the rows.
            console: Shows the progress.
            gpu_price_per_hour: Dollars per GPU-hour; None shows device time instead of dollars.
            groups: Groups that the run starts with; 0 if unknown.
            redraws: Samples of the total that are further tries; tries that follow come on top.
            is_exact: Whether the total is counted; else it is estimated (`expect`).
            clock: Monotonic seconds.
        """
        self._room = groups
        self._groups: dict[str, GroupProgress] = {}
        self._told: set[object] = set()
        self._planned, self._redraws, self._is_exact = total - redraws, redraws, is_exact
        self._totals = totals
        self._console = console
        self._price = gpu_price_per_hour
        self._clock = clock
        self._began = self._logged = clock()
        self._first: tuple[float, int] | None = None
        self._loaded = self._began
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
            self._console.print(
                f"loading the model, then {self._about}{counted(self.total, 'clip')}",
                highlight=False,
            )
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
        """Print a line above the display; any thread may call this."""
        say(self._console, line, one_line=True)

    def expect(self, total: int, redraws: int, *, is_exact: bool) -> None:
        """Take note of how many samples the run makes, as the count of its input goes on."""
        self._planned, self._redraws, self._is_exact = total - redraws, redraws, is_exact

    @property
    def _about(self) -> str:
        return "" if self._is_exact else "about "

    def update(self, table: pa.Table | None = None) -> None:
        """Show the totals as they are now.

        Args:
            table: The rows that were just counted; they show which groups work.
        """
        now = self._clock()
        if table is not None:
            if self._first is None:
                self._loaded = max(self._began, now - _working_s(table))
            self._add_groups(table, now)
            say_news(self.say, table, self._told)
        if self._first is None and self._totals.made:
            self._first = (now, self._totals.made)
        if not self._console.is_terminal and now - self._logged >= LOG_EVERY_S:
            self._logged = now
            self._console.print(self.line(), highlight=False, soft_wrap=True)

    @property
    def total(self) -> int:
        """Samples that the run makes, as far as it is known: further tries show up as they come."""
        return self._planned + max(self._redraws, self._totals.redraws)

    def snapshot(self) -> Snapshot:
        """The progress in numbers."""
        totals, price = self._totals, self._price
        elapsed = self._clock() - self._began
        gpu_s = sum(totals.spent.values())
        dollars = None if price is None else gpu_s / 3600 * price
        projected = dollars / totals.made * self.total if dollars and totals.made else None
        present = self._present()
        return Snapshot(
            made=totals.made,
            total=self.total,
            failed=totals.failed,
            clips_per_s=totals.ok / elapsed if elapsed > 0 else 0.0,
            eta_s=self.eta_s(),
            gpu_s=gpu_s,
            dollars=dollars,
            dollars_projected=projected,
            reuse_ratio=totals.reuse_ratio if totals.steps else None,
            controls=totals.controls,
            groups=present,
            waiting=max(self._room - len(present), 0),
        )

    def room_for(self, groups: int) -> None:
        """Take note of how many groups the cluster has room for from now on."""
        self._room = groups

    def _present(self) -> dict[str, GroupProgress]:
        """Processes that can still be there: a group that starts again does so in a new one."""
        latest = sorted(self._groups, key=lambda name: -self._groups[name].last)
        left = set(latest[: self._room or None])
        return {name: group for name, group in self._groups.items() if name in left}

    def eta_s(self) -> float | None:
        """Seconds to go, None while unknown.

        Measured from the first finished rows on, so that the loading of the model does not count.
        Until there are others, the first rows themselves say how long their process took for them.
        """
        if self._first is None:
            return None
        began, before = self._first
        done = self._totals.made - before
        elapsed = self._clock() - began
        if not done or not elapsed:
            # Only one batch so far: its whole time gives the only known rate.
            done, elapsed = self._totals.made, self._clock() - self._loaded
        return (self.total - self._totals.made) * elapsed / done

    def line(self) -> str:
        """The progress in one line of plain text."""
        now, at = self._clock(), self.snapshot()
        parts = [
            f"{at.made}/{self._about}{at.total} clips",
            rate(at.clips_per_s),
            f"ETA {duration(at.eta_s)}" if at.eta_s is not None else "ETA -",
        ]
        if at.reuse_ratio is not None:
            parts.append(f"reused {at.reuse_ratio:.0%} of steps")
        elif at.controls:  # of clips that an earlier run has made
            parts.append("controls only, which reuse no steps")
        parts.append(self.money(at))
        if at.failed:
            parts.append(f"{at.failed} failed")
        states = Counter(group.state(now) for group in at.groups.values())
        states["waiting for a first clip"] = at.waiting
        if len(at.groups) + at.waiting > 1:
            texts = (f"{count} {state}" for state, count in states.items() if count)
            parts.append("groups: " + ", ".join(texts))
        return " · ".join(parts)

    @staticmethod
    def money(at: Snapshot) -> str:
        """What the run has cost so far: dollars if the price is known, else device time."""
        if at.dollars is None:
            return f"{duration(at.gpu_s)} of device time"
        projected = at.dollars_projected
        return f"{dollars(at.dollars)} spent" + (f" of {dollars(projected)}" if projected else "")

    def _add_groups(self, table: pa.Table, now: float) -> None:
        for worker in table["worker"].to_pylist():
            if worker:
                group = self._groups.setdefault(
                    worker["id"], GroupProgress(worker["node"], now, now)
                )
                group.rows, group.last = group.rows + 1, now

    def _screen(self) -> Table:
        self._bar.update(self._task, completed=self._totals.made, total=self.total)
        screen = Table.grid()
        screen.add_row(self._bar)
        screen.add_row(self.line())
        now = self._clock()
        present = sorted(self._present().items(), key=lambda item: item[1].last)
        for name, group in present[:GROUPS_SHOWN]:
            state = f"{group.state(now)}, last {duration(now - group.last)} ago"
            rows = counted(group.rows, "row")
            screen.add_row(text_of(f"  {group.node} {name}: {rows}, {state}", "dim"))
        if len(present) > GROUPS_SHOWN:
            more = counted(len(present) - GROUPS_SHOWN, "more group")
            screen.add_row(f"  and {more}", style="dim")
        return screen


def _working_s(table: pa.Table) -> float:
    """Seconds since the process of some rows had loaded, at the time of its latest row here.

    Infinite if no row tells.
    """
    workers = [worker for worker in table["worker"].to_pylist() if worker]
    return max((each["up_s"] - each["load_s"] for each in workers), default=math.inf)


def duration(seconds: float) -> str:
    """Seconds as text: `8 s`, `3 min 20 s`, `5 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
