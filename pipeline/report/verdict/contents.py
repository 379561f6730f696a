"""What there is: clips, what failed, and what a reader of the dataset must know of it."""

from __future__ import annotations

from pipeline.monitoring.progress import duration
from pipeline.report import text
from pipeline.report.document import Report
from pipeline.wording import are, counted, listed

FEW_KINDS = 4
"""So many kinds of clips are counted in a sentence."""


def what_there_is(report: Report) -> str:
    """Count clips, failures and rejected rows; then mixed settings, repeats and cut prompts."""
    totals = report.totals
    said = f"{counted(totals.ok, 'clip', grouped=True)}, {duration(totals.video_s)} of video"
    if totals.controls:
        said += f", and {counted(totals.controls, 'uncached control', grouped=True)}"
    said += " so far" if any(run.state == "running" for run in report.runs) else ""
    failed = totals.failed + totals.controls_failed
    left = [f"{counted(failed, 'sample', grouped=True)} failed"] if failed else []
    if totals.lost:
        files = counted(totals.lost, "file", grouped=True)
        left.append(f"{files} of clips {are(totals.lost)} not stored whole")
    if totals.rejected:
        left.append(f"{counted(totals.rejected, 'input row', grouped=True)} could not be used")
    said = f"{said}; {' and '.join(left) or 'nothing failed'}."
    return " ".join(filter(None, [said, _mixed(report), _repeats(report), _truncated(report)]))


def _mixed(report: Report) -> str:
    """How many clips are of which settings, and which prompts have several; "" if alike."""
    kinds, prompts = report.settings, report.repeated_prompts
    if len(kinds) < 2:
        return ""
    each = [f"{text.count(kind.clips)} of {kind.name}" for kind in kinds]
    said = f"They are of {len(kinds)} settings"
    said += f": {listed(each)}" if len(each) <= FEW_KINDS else ", which a note below counts"
    if prompts:
        said += f"; {counted(prompts, 'prompt', grouped=True)} {'was' if prompts == 1 else 'were'}"
        said += " made with more than one of them"
    return f"{said}."


def _repeats(report: Report) -> str:
    """How many clips look like others, and how many of these are one prompt in two settings."""
    alike = report.good_clips.duplicates if report.good_clips else None
    if alike is None or not alike.repeats:
        return ""
    one = alike.repeats == 1
    said = f"{counted(alike.repeats, 'clip', grouped=True)} {are(alike.repeats)} "
    said += f"{'a near duplicate' if one else 'near duplicates'} of another one"
    if alike.of_other_settings:
        said += f", {text.count(alike.of_other_settings)} by the same prompt in other settings"
    return f"{said}."


def _truncated(report: Report) -> str:
    cut = report.totals.truncated
    if not cut:
        return ""
    return f"The model did not read the end of the {'prompt' if cut == 1 else 'prompts'} of " + (
        f"{counted(cut, 'clip', grouped=True)}."
    )
