"""Shows the progress of a benchmark: a bar on a terminal, elsewhere a line from time to time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_EVERY_S = 30.0


@dataclass
class ProgressLine:
    """The progress of one part of a benchmark.

    Attributes:
        console: Where it is shown.
        title: Name of the part.
        bar: The live bar; None without a terminal.
        began: Start, in monotonic seconds.
    """

    console: Console
    title: str
    bar: Progress | None
    began: float = field(default_factory=lambda: time.monotonic())
    _logged: float = 0.0

    def show(self, done: float, total: float, detail: str = "") -> None:
        """Update the bar, or print a line if the last one is some time ago."""
        if self.bar is not None:
            title = f"{self.title} {detail}".strip()
            self.bar.update(self.bar.task_ids[0], completed=done, total=total, description=title)
            return
        elapsed = time.monotonic() - self.began
        if done and elapsed - self._logged >= LOG_EVERY_S:
            self._logged = elapsed
            left = elapsed / done * (total - done)
            title = f"{self.title} {detail}".strip()
            self.console.print(
                f"{title}: {done / total:.0%}, {elapsed:.0f} s, {left:.0f} s left", highlight=False
            )


@contextmanager
def show_progress(console: Console, title: str) -> Iterator[ProgressLine]:
    """Show the progress of one part until it ends, then print its duration."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    if console.is_terminal:
        with Progress(*columns, *times, console=console, transient=True) as bar:
            bar.add_task(title, total=None)
            watch = ProgressLine(console, title, bar)
            yield watch
    else:
        watch = ProgressLine(console, title, None)
        yield watch
    console.print(f"{title}: {time.monotonic() - watch.began:.0f} s", highlight=False)
