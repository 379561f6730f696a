"""The verdict of a report in four sentences: what there is, how good, at what cost, and what next.

All numbers are those of the report. Where something was not measured, the sentence says so, and the
advice is the command that measures it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pipeline.monitoring.progress import duration
from pipeline.report import text
from pipeline.report.bootstrap import FEW
from pipeline.report.document import Report, ReportVerdict
from pipeline.report.good_clips.advice import MOTION, condition_to_try
from pipeline.report.pairs import control_fraction, errors
from pipeline.report.pricing.projections import REST
from pipeline.wording import TOO_MUCH, are, called_as, counted, more_than_promised

FAR_BELOW_DB = 6.0
"""A worst pair so far below the mean is named: its error is twice as large."""


def verdict(report: Report) -> ReportVerdict:
    """Sum up a report for somebody who reads nothing else of it."""
    next_, command = _next(report)
    return ReportVerdict(
        got=_got(report), good=_good(report), cost=_cost(report), next=next_, command=command
    )


def _got(report: Report) -> str:
    totals = report.totals
    said = f"{counted(totals.ok, 'clip', grouped=True)}, {duration(totals.video_s)} of video"
    if totals.controls:
        said += f", and {counted(totals.controls, 'uncached control', grouped=True)}"
    said += " so far" if _running(report) else ""
    failed = totals.failed + totals.controls_failed
    left = [f"{counted(failed, 'sample', grouped=True)} failed"] if failed else []
    if totals.lost:
        files = counted(totals.lost, "file", grouped=True)
        left.append(f"{files} of clips {are(totals.lost)} not stored whole")
    if totals.rejected:
        left.append(f"{counted(totals.rejected, 'input row', grouped=True)} could not be used")
    return f"{said}; {' and '.join(left) or 'nothing failed'}.{_mixed(report)}"


def _mixed(report: Report) -> str:
    """How many clips are of which settings, and which clips stem from one prompt; "" if alike."""
    kinds, prompts = report.settings, report.repeated_prompts
    if len(kinds) < 2:
        return ""
    each = [f"{text.count(kind.clips)} of {kind.name}" for kind in kinds]
    said = f" They are of {len(kinds)} settings"
    said += f": {_listed(each)}" if len(each) <= FEW_KINDS else ", which a note below counts"
    if not prompts:
        return f"{said}."
    said += f"; {counted(prompts, 'prompt', grouped=True)} {'was' if prompts == 1 else 'were'} made"
    said += " with more than one of them"
    alike = report.good_clips.duplicates if report.good_clips else None
    if alike and alike.of_other_settings:
        found = counted(alike.repeats, "near duplicate", grouped=True)
        said += f", and {text.count(alike.of_other_settings)} of {found} "
        said += f"{are(alike.of_other_settings)} such clips of one prompt"
    return f"{said}."


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _good(report: Report) -> str:
    head, found = report.headline, report.good_clips
    said: list[str] = []
    if found and found.good + found.not_good:
        judged = found.good + found.not_good
        said.append(
            f"{text.count(found.good)} of {counted(judged, 'judged clip', grouped=True)} "
            f"({found.good / judged:.0%}) meet the condition {found.condition or 'of their runs'}"
        )
    if head.psnr_db:
        said += _changed(report, head.psnr_db.value)
    elif report.speedup.controls_to_come:
        said.append("what caching changed is not measured yet: the controls are still to come")
    elif _cached(report):
        said.append("what caching changed was not measured, because no pair has a control")
    if not found or not found.good + found.not_good:
        said.append("whether clips are good was not judged")
    sentence = "; ".join(said)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _changed(report: Report, psnr_db: float) -> list[str]:
    """What caching won and changed; each number with the pairs that it rests on."""
    head, speedup, faster = report.headline, report.speedup, ""
    numbers = [(head.quality_pairs, "pair")]
    if speedup.ratio:
        over = counted(speedup.pairs, "pair", grouped=True)
        numbers.append((speedup.pairs, "pair"))
        if speedup.calls and speedup.calls < speedup.pairs:
            over += f" of {counted(speedup.calls, 'engine call')}"
            numbers.append((speedup.calls, "engine call"))
        faster = f"made clips {speedup.ratio.value:.2f} times as fast over {over} and "
    said = [
        f"caching {faster}changed them {_change(psnr_db)} over "
        f"{counted(head.quality_pairs, 'pair', grouped=True)} with uncached controls"
    ]
    paired = list(dict.fromkeys(each.settings for each in report.quality))
    if _blends(report):
        said.append(
            f"these numbers blend pairs of {_listed(paired)}; the table under What caching won and "
            "lost has a line for each"
        )
    if head.unpaired:
        said.append(
            f"these are pairs of {_listed(paired)}; "
            f"{counted(head.unpaired, 'other cached clip', grouped=True)}, of "
            f"{_listed(head.unpaired_kinds)}, {'has' if head.unpaired == 1 else 'have'} no "
            "controls, and what caching won and changed there is not known"
        )
    least, what = min(numbers)
    if least < FEW:
        said.append(f"caution: {counted(least, what)} {are(least)} too few to trust a number")
    if head.psnr_worst is not None and psnr_db - head.psnr_worst > FAR_BELOW_DB and report.worst:
        said.append(
            f"the worst pair, clip {report.worst[0].sample_id}, lies far below the others with "
            f"{head.psnr_worst:.1f} dB"
        )
    found = _errors(report)
    above = [each for each in found if more_than_promised(each[1], each[2])]
    said += [_error_of(*each) for each in (above if len(found) > 1 else found)]
    if len(found) > 1 and (kept := len(found) - len(above)):
        said.append(f"{kept} of {len(found)} settings kept the error that was promised")
    return said


def _errors(report: Report) -> list[tuple[str, float, float]]:
    """Where caching was promised an error and measured: over all pairs, or of each line if mixed.

    Pairs of several settings were promised different errors, and no setting was promised the mean
    of these.

    Returns:
        Which pairs (" for planned 4/10, guidance 6"; "" for all), the promised error and the
        measured one.
    """
    parts = [("", report.quality)]
    if _blends(report):
        parts = [(f" for {text.compared(each)}", [each]) for each in report.quality]
    found = ((where, errors(entries)) for where, entries in parts)
    return [(where, *both) for where, both in found if both]


def _error_of(where: str, promised: float, measured: float) -> str:
    judged = more_than_promised(promised, measured)
    return (
        f"the error of caching{where} is {measured:.2g} of the last latents, and {promised:.2g} "
        "was promised" + (f": {judged}" if judged else "")
    )


def _blends(report: Report) -> bool:
    """Whether the compared pairs are of several settings."""
    return len({each.settings for each in report.quality}) > 1 or any(
        each.kinds > 1 for each in report.quality
    )


def _change(psnr_db: float) -> str:
    """A mean PSNR and what it means for a pixel: 20 dB are a tenth of the range from 0 to 255."""
    if psnr_db >= text.IDENTICAL_DB:
        return "not at all"
    return f"by {10 ** (-psnr_db / 20):.1%} of the range of a pixel (PSNR {psnr_db:.1f} dB)"


FEW_KINDS = 4
"""So many kinds of clips are counted in a sentence."""

LEAST_SHARE = 0.005
"""A smaller share of the device time is not named."""

_BESIDE = {
    "controls": "controls",
    "drafts": "drafts",
    "loading": "loading the model",
    "idle": "waiting",
    "failed_attempts": "failed attempts",
    "regenerated": "clips that were made again",
}
"""What device time goes into beside the clips, and its words."""


def _cost(report: Report) -> str:
    spent, ok = report.device_s, report.totals.ok
    each = f", {spent.total / ok:.2f} s a clip with everything" if ok else ""
    said = f"{duration(spent.total)} of device time{each}"
    if report.dollars:
        said += f"; {text.dollars(report.dollars.total)}"
        if ok:
            said += f", or {text.dollars(1000 * report.dollars.total / ok)} per 1,000 clips"
    else:
        said += "; the price of a GPU-hour is not known"
    if not (ok and spent.total):
        return f"{said}."
    others = sorted(
        ((getattr(spent, name) / spent.total, what) for name, what in _BESIDE.items()), reverse=True
    )
    rest = ", ".join(f"{what} {share:.0%}" for share, what in others if share >= LEAST_SHARE)
    said += f"; {spent.clips / spent.total:.0%} of the time went into the clips"
    return f"{said}, the rest into other things: {rest}." if rest else f"{said}."


def _next(report: Report) -> tuple[str, str]:
    """The most urgent step, and its command; "" where it is the run's own command, unknown here."""
    place, totals, found = shlex.quote(report.output), report.totals, report.good_clips
    left = sum(entry.clips for entry in report.projections if entry.what.startswith(REST))
    if _running(report):
        return "Wait for the run; this keeps the page fresh:", (
            f"{called_as('report')} --output {place} --watch 30"
        )
    if gone := sum(run.lost_parts for run in report.runs):
        return (
            f"Run the same command again: {counted(gone, 'part')} of the rows {are(gone)} missing, "
            "and the run takes the clips over from their mp4s, without making them again.",
            "",
        )
    if left:
        clips = counted(left, "sample", grouped=True)
        return f"Run the same command again: {clips} are not made yet.", ""
    if totals.lost:
        lost = counted(totals.lost, "lost file", grouped=True)
        return f"Run the same command with --verify: it makes the clips of {lost} again.", ""
    if totals.failed + totals.controls_failed:
        return (
            "Read the causes under Errors, then run the same command with --retry-failed, which "
            "tries failed samples again.",
            "",
        )
    if not totals.ok:
        return "Correct the rejected rows of the input, and run the same command again.", ""
    if _cached(report) and not report.headline.quality_pairs:
        share = control_fraction(totals.ok)
        flag = f"--control-fraction {share:g}"
        again = "Run the same command again with"
        if totals.controls:  # an older version made them, and compared them with nothing
            again = "Give another --output or other prompts to a run with"
        return (
            f"{again} {flag}: it makes uncached twins of {'all' if share >= 1 else 'some'} clips, "
            "which measure what caching wins and changes.",
            "",
        )
    if any(more_than_promised(*both) == TOO_MUCH for _, *both in _errors(report)):
        return (
            "Controls measured a larger error than caching promised: choose a higher "
            "--cache.quality with another --output, or compare clips with their controls before a "
            "trainer gets them.",
            "",
        )
    if not found or not found.good + found.not_good:
        condition, keeps = condition_to_try(found.scores if found else []) or (
            f"{MOTION} > 0.1",
            "keeps clips in which something moves",
        )
        return f"Say which clips are good; for example, this {keeps}:", (
            f"{called_as('score')} --output {place} --keep {shlex.quote(condition)}"
        )
    if not found.good:
        return "Choose a looser condition, without scoring again: no clip meets this one.", ""
    return "Give the good clips to a trainer:", (
        f"{called_as('export')} --output {place} --to {shlex.quote(report.output + '-export')} "
        "--where good"
    )


def _running(report: Report) -> bool:
    return any(run.state == "running" for run in report.runs)


def _cached(report: Report) -> bool:
    return report.totals.nfe < report.totals.steps
