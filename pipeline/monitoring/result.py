"""How a run ended, and what it prints then: clips, cost, errors, and how many clips are good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from pipeline.config.run_config import RunConfig
from pipeline.monitoring.console import text_of
from pipeline.monitoring.profile_lines import error_text
from pipeline.monitoring.progress import duration
from pipeline.monitoring.totals import RunTotals
from pipeline.requests.reasons import InputCounts
from pipeline.wording import counted, dollars, size


@dataclass(slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_id: Names its manifest, `runs/{run_id}.json`.
        done_before: Samples of this input that earlier runs had finished.
        failed_before: Those of them that ended as failed rows.
        read: Input rows.
        rejected: Those that cannot become samples, also those that earlier runs recorded.
        interrupted: Stopped by SIGINT or SIGTERM; the same command goes on.
        totals: Sums over the rows of this run.
    """

    run_id: str
    done_before: int = 0
    failed_before: int = 0
    read: int = 0
    rejected: int = 0
    interrupted: bool = False
    totals: RunTotals = field(default_factory=RunTotals)

    def count(self, counts: InputCounts) -> None:
        """Take over what became of the input so far."""
        self.done_before, self.failed_before = counts.done, counts.done_failed
        self.read, self.rejected = counts.read, counts.rejected

    @property
    def failed_fraction(self) -> float:
        """Failed over all finished samples of this input, those of earlier runs included."""
        finished = self.done_before + self.totals.made
        return (self.failed_before + self.totals.failed) / finished if finished else 0.0

    @property
    def rejected_fraction(self) -> float:
        """Rejected rows over all rows of this input."""
        return self.rejected / self.read if self.read else 0.0


def say_result(
    console: Console,
    config: RunConfig,
    totals: RunTotals,
    interrupted: bool,
    *,
    is_part: bool = False,
    rejected: int | None = None,
) -> None:
    """Print what was made, what it cost and where it is.

    Args:
        console: Where.
        config: The run's settings.
        totals: Of the run.
        interrupted: Whether a signal ended it.
        is_part: Whether earlier runs made clips of the same input: the numbers are of this run.
        rejected: Rejected rows of the input, those included that earlier runs recorded; None: those
            of the totals.
    """
    table = Table(show_header=False, box=None, pad_edge=False)
    controls = f", {counted(totals.controls, 'control')}" if totals.controls else ""
    rejected = totals.rejected if rejected is None else rejected
    made = f"{totals.clips} ok, {totals.failed} failed, {counted(rejected, 'rejected row')}"
    if before := rejected - totals.rejected:
        made += f" ({before} of them recorded before)" if totals.rejected else " (recorded before)"
    table.add_row("clips", made + controls)
    device_s = sum(totals.spent.values())
    if totals.clips:
        own_s = device_s - totals.control_gpu_s  # failed attempts included, as in the report
        apart = " without controls" if totals.controls else ""
        cost = f"{own_s / totals.clips:.2f} s a clip{apart}"
        table.add_row("device time", f"{duration(device_s)}, {cost}")
        if own_s > 0:  # a test's engine can be too quick for the clock
            rate = totals.video_s / own_s * 3600
            table.add_row("throughput", f"{rate:.0f} s of video per device-hour")
        table.add_row("reused", f"{totals.reuse_ratio:.1%} of {totals.steps} steps")
        if totals.drafts:
            share = totals.draft_gpu_s / totals.drafts
            table.add_row("drafts", f"{totals.drafts}, {share:.2f} s each, in the device time")
        to_come = interrupted and config.control_fraction > 0
        if error := error_text(totals, controls_to_come=to_come):
            table.add_row("error", error)
        if config.gpu_price_per_hour is not None:
            price = config.gpu_price_per_hour / 3600
            each = own_s * price / totals.clips
            cost = f"{dollars(device_s * price)}, {dollars(1000 * each)} per 1,000 clips"
            table.add_row("cost", cost)
    elif totals.controls:
        table.add_row("device time", f"{duration(device_s)}, for controls only")
        table.add_row("reused", "nothing: controls compute every step, and no other clip was left")
    if good := yield_text(totals, config.gpu_price_per_hour):
        table.add_row("good", f"{good}; of this run alone" if is_part else good)
    if config.save:
        table.add_row("saved", saved_text(totals, config.save))
    if totals.failed_attempts:
        table.add_row("attempts", f"{totals.failed_attempts} failed: an error, or a process died")
    if totals.truncated:
        clips = counted(totals.truncated, "clip")
        table.add_row("cut off", f"the end of the prompt of {clips} (prompt_truncated)")
    table.add_row("output", text_of(config.output))
    console.print(table, highlight=False)
    if interrupted:
        console.print("Interrupted; run the same command again and it goes on.", highlight=False)


def saved_text(totals: RunTotals, save: Sequence[str]) -> str:
    """What is stored beside the clips, how large it is, and how many clips have none."""
    text = f"{', '.join(save)} of {counted(totals.saved, 'clip')}, {size(totals.saved_bytes)}"
    without = totals.ok - totals.saved
    why = "not good, or stored by a run without --save"
    return f"{text}; {without} without: {why}" if without else text


def yield_text(totals: RunTotals, price_per_hour: float | None) -> str:
    """How many clips are good, and what a good one cost; "" where no condition was given.

    The cost of a good clip is everything that the run spent, over its good clips.

    Args:
        totals: Of the run.
        price_per_hour: Of a device; None where it is not known.
    """
    judged = totals.good + totals.not_good
    unknown = totals.clips - judged
    if not judged:
        return ""
    text = f"{totals.good} of {counted(judged, 'clip')} ({totals.good / judged:.0%})"
    if totals.redraws:
        text += f", {totals.redraws_good} of them by {counted(totals.redraws, 'redraw')}"
    if unknown:
        text += f", {unknown} not judged because scores are missing (scores_missing)"
    spent_s = sum(totals.spent.values())
    if totals.good and spent_s > 0:
        text += f"; {spent_s / totals.good:.2f} device seconds"
        if price_per_hour is not None:
            text += f", {dollars(spent_s / totals.good * price_per_hour / 3600)}"
        text += " a good clip"
    return text
