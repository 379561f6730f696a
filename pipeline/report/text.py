"""The numbers of a report as text: single values, and whole blocks for a terminal or a log."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from pipeline import wording
from pipeline.monitoring.console import say, text_of
from pipeline.monitoring.progress import duration
from pipeline.report.base import Estimate
from pipeline.report.document import Report, Totals
from pipeline.report.good_clips.document import GoodClips
from pipeline.report.good_clips.recaptions import Recaptions
from pipeline.report.tables.clip_kinds import each_kind
from pipeline.report.tables.document import Quality
from pipeline.wording import counted

NONE = "–"
IDENTICAL_DB = 100.0
"""PSNR of a clip that equals its control, in place of infinity."""


def count(value: float | None) -> str:
    """A whole number with thousands separators."""
    return NONE if value is None else f"{value:,.0f}"


def dollars(value: float | None) -> str:
    """Money as in all messages, or a dash."""
    return NONE if value is None else wording.dollars(value)


def decibels(value: float | None) -> str:
    """A PSNR; frames that equal those of the control are said to be identical."""
    if value is None:
        return NONE
    return "identical" if value >= IDENTICAL_DB else f"{value:.1f} dB"


def percent(value: float | None) -> str:
    """A share in percent, with one decimal."""
    return NONE if value is None else f"{value:.1%}"


def evaluations(entry: Quality) -> str:
    """The numbers of evaluations of compared clips, and their steps."""
    most = max(entry.nfe, entry.nfe_most)
    numbers = str(entry.nfe) if most == entry.nfe else f"{entry.nfe} to {most}"
    return f"{numbers}/{entry.steps}"


def compared(entry: Quality) -> str:
    """Which clips a line about quality is of: policy, evaluations, and settings if several are."""
    return ", ".join(filter(None, (f"{entry.policy} {evaluations(entry)}", settings(entry))))


def settings(entry: Quality) -> str:
    """What sets the clips of a line about quality apart, beside their policy; "" for nothing."""
    first, _, others = entry.settings.partition(" ")
    return others if first == entry.policy else entry.settings


def short(value: float | None) -> str:
    """A number with three digits that count, without an exponent."""
    if value is None:
        return NONE
    rounded = f"{value:.3g}"
    if "e" not in rounded:
        return rounded
    if abs(value) >= 1:
        return f"{float(rounded):,.0f}"
    decimals = 2 - math.floor(math.log10(abs(float(rounded))))
    return f"{value:.{decimals}f}"


def estimate(value: Estimate | None, unit: str) -> str:
    """A value and its 95 % interval."""
    if value is None:
        return NONE
    if value.low == value.high:  # one pair, or equal ones: nothing to resample
        return f"{value.value:.2f}{unit}"
    return f"{value.value:.2f}{unit} (95 %: {value.low:.2f} to {value.high:.2f})"


def size(value: float) -> str:
    """Bytes as in all messages."""
    return wording.size(value)


S3_DOLLARS_PER_GB_MONTH = 0.023
"""List price of Amazon S3 Standard in us-east-1, of the first 50 TB a month (November 2026)."""


def stored(totals: Totals) -> list[str]:
    """Say how large the clips are and what lies beside them, and what keeping both costs."""
    both = totals.media_bytes + totals.tensor_bytes
    beside = f"{size(totals.tensor_bytes)} of tensors of "
    price = dollars(both / 1e9 * S3_DOLLARS_PER_GB_MONTH)
    return [
        f"{size(totals.media_bytes)} of mp4",
        beside + counted(totals.tensor_clips, "clip", grouped=True) if totals.tensor_clips else "",
        f"{price} a month in S3 at ${S3_DOLLARS_PER_GB_MONTH} per GB",
    ]


def kept(columns: Mapping[str, int]) -> str:
    """Say which columns of the input the clips keep, and how to use them."""
    each = ", ".join(
        f"{name} ({counted(clips, 'clip', grouped=True)})"
        for name, clips in list(columns.items())[:MOST_COLUMNS]
    )
    more = f" and {len(columns) - MOST_COLUMNS} more" if len(columns) > MOST_COLUMNS else ""
    return (
        f"The clips keep further columns of the input, as JSON in the column source: {each}"
        f"{more}. Exports select by them (--where) and split by them (--split-by)."
    )


def good_clips(found: GoodClips) -> list[str]:
    """Say how many clips are good, what one cost, and what to do next; part by part."""
    cost, judged = found.cost, found.good + found.not_good
    return [
        f"{count(found.good)} of {counted(judged, 'clip', grouped=True)}"
        + (f" ({percent(found.share.value)})" if found.share else "")
        if judged
        else "",
        f"{count(found.not_judged)} not judged" if found.not_judged else "",
        f"{cost.device_s:.2f} s of device time a good clip" if cost else "",
        f"{dollars(cost.dollars)} a good clip" if cost and cost.dollars is not None else "",
        found.advice,
    ]


def recaptions(found: Recaptions) -> list[str]:
    """Say which captioners described how many clips, and why clips have no new caption."""
    by = [f"{count(one.clips)} by {one.captioner}" for one in found.captioners]
    why = "; ".join(f"{count(one.clips)}: {one.reason}" for one in found.missing)
    return [
        *by,
        f"{count(found.without)} without" + (f" ({why})" if why else "") if found.without else "",
    ]


INCLUDED = "with controls, failures and idle time as so far, without loading"
"""What a projection counts (`pipeline.report.pricing.projections`)."""

MOST_COLUMNS = 20
SHOWN = 4
"""Kinds of clips and of failures that are printed; the page shows all."""


def print_report(report: Report, console: Console) -> None:
    """Print the numbers that most people look for, in about twenty lines."""
    totals, head = report.totals, report.headline
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()

    def line(name: str, *parts: str) -> None:
        table.add_row(text_of(name), text_of(" · ".join(part for part in parts if part)))

    line(
        "clips",
        f"{count(totals.ok)} ok",
        f"{count(totals.failed)} failed",
        counted(totals.rejected, "rejected row", grouped=True),
        counted(totals.controls, "control", grouped=True) if totals.controls else "",
        f"{counted(totals.superseded, 'superseded row', grouped=True)} (another of their id counts)"
        if totals.superseded
        else "",
    )
    if head.gpu_s_per_clip is not None:
        line("device time", f"{duration(report.device_s.total)} in all", _shares(report))
        line("per clip", f"{head.gpu_s_per_clip:.2f} s of device time")
    if head.video_s_per_gpu_hour is not None:
        line("throughput", f"{count(head.video_s_per_gpu_hour)} s of video per device-hour")
    if head.reuse_ratio is not None and head.nfe_mean is not None:
        line("reused", f"{percent(head.reuse_ratio)} of steps", f"{head.nfe_mean:.1f} NFE a clip")
    if head.dollars_per_clip is not None and head.dollars_per_clip_all_in is not None:
        line(
            "cost",
            f"{dollars(report.dollars.total if report.dollars else None)} in all",
            f"{dollars(1000 * head.dollars_per_clip)} per 1,000 clips",
            f"{dollars(1000 * head.dollars_per_clip_all_in)} with loading, idle time and controls",
        )
    line("stored", *stored(totals))
    if report.good_clips:
        line("good clips", *good_clips(report.good_clips))
    if report.redraws:
        line("redraws", report.redraws.advice)
    if report.recaptions:
        line("new captions", *recaptions(report.recaptions))
    speedup = report.speedup
    ratio = (
        f"{estimate(speedup.ratio, 'x')} over {counted(speedup.pairs, 'pair')}"
        if speedup.ratio
        else ""
    )
    line("speed-up", ratio, speedup.note)
    if len(report.quality) > SHOWN:
        line(
            "quality",
            f"PSNR {estimate(head.psnr_db, ' dB')} over {counted(head.quality_pairs, 'pair')}",
            f"worst {head.psnr_worst or 0.0:.1f} dB",
        )
    for entry in sorted(report.quality, key=lambda entry: -entry.pairs)[:SHOWN]:
        line(
            "quality",
            f"{compared(entry)}: PSNR {estimate(entry.psnr_db, ' dB')}",
            f"worst {entry.psnr_worst:.1f} dB",
            f"SSIM {entry.ssim.value:.4f}" if entry.ssim else "",
            entry.note,
        )
    for cause in report.failures[:SHOWN]:
        line(cause.status, f"{count(cause.samples)} {cause.error_type}", cause.example_message[:90])
    if others := sum(cause.samples for cause in report.failures[SHOWN:]):
        line("", f"{count(others)} failed or rejected for other reasons; the page shows them")
    for projection in report.projections:
        cost = dollars(projection.dollars) if projection.dollars is not None else ""
        line(projection.what, duration(projection.gpu_s) + " of device time", cost, INCLUDED)
    console.print(table, highlight=False)
    kinds = [f"  {kind}" for kind in each_kind(report.settings)]  # after the first note, of these
    notes = [f"note: {note}" for note in report.notes]
    for line_of_notes in [*notes[:1], *kinds, *notes[1:]]:
        say(console, text_of(line_of_notes, "dim"))
    if report.verdict:
        say(console, text_of("next: ", "bold"), report.verdict.next)
        if report.verdict.command:
            say(console, f"  {report.verdict.command}", one_line=True)


PLAN_WITH = (
    "Pairs may have had other calls than most clips: to plan more clips, take device time per clip "
    "as the report has it of all clips, and from here only how much cheaper a budget is."
)
"""Why seconds of pairs differ from the mean of all clips, and what each is for."""


def print_what_if(report: Report, console: Console) -> None:
    """Print what clips would cost at other numbers of evaluations, and the basis of each line."""
    if not report.what_if:
        console.print(
            "what if: nothing to work it out from; make a few uncached twins with "
            "--control-fraction, beside clips that reuse steps",
            highlight=False,
        )
        return
    table = Table(title="what if", title_justify="left", box=None, pad_edge=False)
    for heading in ("budget", "NFE", "device s/clip", "$ per 1,000", "speed-up", "PSNR dB"):
        table.add_column(heading, justify="right")
    table.add_column("basis")
    for entry in report.what_if:
        cost = entry.dollars_per_clip
        table.add_row(
            f"{entry.budget:.2f}",
            str(entry.nfe),
            f"{entry.gpu_s_per_clip:.3g}",
            dollars(None if cost is None else cost * 1000),
            f"{entry.speedup:.2f}x",
            NONE if entry.psnr_db is None else f"{entry.psnr_db:.1f}",
            "measured" if entry.measured else "line",
        )
    console.print(table, highlight=False)
    console.print(
        "Device time alone, without loading and idle time: of pairs of cached and uncached clips, "
        f"and on the line through them. {PLAN_WITH}",
        style="dim",
        highlight=False,
        markup=False,
    )


def _shares(report: Report) -> str:
    spent, total = report.device_s, report.device_s.total
    waste = spent.failed_attempts + spent.regenerated
    return ", ".join(
        f"{name} {percent(value / total)}"
        for name, value in (
            ("clips", spent.clips),
            ("controls", spent.controls),
            ("drafts", spent.drafts),
            ("loading", spent.loading),
            ("idle", spent.idle),
            ("wasted", waste),
        )
        if total and value / total >= 0.0005
    )
