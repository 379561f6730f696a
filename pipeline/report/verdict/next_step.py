"""What to do next: the most urgent step, with its command.

A step that runs the pipeline again shows the whole command of the run in question. A prefix can
hold runs of several commands, so "the same command" alone would not say which.
"""

from __future__ import annotations

import shlex

from pipeline.report.document import Report, RunEntry
from pipeline.report.good_clips.advice import defects_found
from pipeline.report.good_clips.defects import ALIGNMENT, ALIGNMENT_SCORER, condition_without
from pipeline.report.good_clips.document import GoodClips
from pipeline.report.pairs import broken_promises, control_fraction
from pipeline.report.pricing.projections import REST
from pipeline.wording import are, called_as, counted

Step = tuple[str, str]
"""What to do, and the command; "" where no command does it, or none is known."""


def next_step(report: Report) -> Step:
    """The most urgent step."""
    return _unfinished(report) or _unmeasured(report) or _clips(report)


def _unfinished(report: Report) -> Step | None:
    """What keeps the dataset from being whole."""
    totals = report.totals
    if any(run.state == "running" for run in report.runs):
        return "Wait for the run; this keeps the page fresh:", (
            f"{_job(report, 'report')} --watch 30"
        )
    if gone := sum(run.lost_parts for run in report.runs):
        why = (
            f"{counted(gone, 'part')} of the rows {are(gone)} missing, and the run takes the clips "
            "over from their mp4s, without making them again"
        )
        return _again(report, why, run=next(run for run in report.runs if run.lost_parts))
    if left := sum(entry.clips for entry in report.projections if entry.what.startswith(REST)):
        return _again(report, f"{counted(left, 'sample', grouped=True)} are not made yet")
    if totals.lost:
        lost = counted(totals.lost, "lost file", grouped=True)
        return _again(report, f"it makes the clips of {lost} again", "--verify")
    if totals.failed + totals.controls_failed:
        return _again(
            report,
            "read the causes under Failures first; it tries failed samples again",
            "--retry-failed",
        )
    if not totals.ok:
        return _again(report, "correct the rejected rows of the input first")
    return None


def _unmeasured(report: Report) -> Step | None:
    """What caching did and nobody knows yet, or did worse than it promised."""
    totals = report.totals
    if totals.nfe < totals.steps and not report.headline.quality_pairs:
        share = control_fraction(totals.ok)
        twins = (
            f"it makes uncached twins of {'all' if share >= 1 else 'some'} clips, which measure "
            "what caching wins and changes"
        )
        if totals.controls:  # an older version made them, and compared them with nothing
            flag = f"--control-fraction {share:g}"
            return f"Give another --output or other prompts to a run with {flag}: {twins}.", ""
        return _again(report, twins, "--control-fraction", f"{share:g}")
    if broken_promises(report.quality):
        return (
            "Controls measured a larger error than caching promised: choose a higher "
            "--cache.quality with another --output, or compare clips with their controls before a "
            "trainer gets them.",
            "",
        )
    return None


def _clips(report: Report) -> Step:
    """Which clips a trainer gets."""
    found = report.good_clips
    if found and found.good + found.not_good:
        if not found.good:
            return "Choose a looser condition, without scoring again: no clip meets this one.", ""
        return "Give the good clips to a trainer:", f"{_export(report)} --where good"
    if not found or not found.defects:
        return (
            "Score the clips, without weights, to find those that are black, frozen, cut or "
            "flickering; whether clips show their prompts only a look at the gallery tells:",
            f"{_job(report, 'score')} --scorers basic",
        )
    return _scored(report, found)


def _scored(report: Report, found: GoodClips) -> Step:
    said = defects_found(found.defects, found.defective)
    said = f"{said[0].upper()}{said[1:]}"
    if condition := condition_without(found.defects):
        it = "it" if found.defective == 1 else "them"
        return f"{said}; look at {it}, and leave {it} out if you agree:", (
            f"{_job(report, 'score')} --keep {shlex.quote(condition)}"
        )
    if not {each.name for each in found.scores}.isdisjoint(ALIGNMENT):
        return f"{said}. Look at the clips that fit their prompts least, then train:", (
            _export(report)
        )
    return (
        f"These scores found no defect, but they do not see whether a clip shows its prompt. Look "
        f"at the gallery and give the clips to a trainer ({called_as('export')}), or score first "
        "how well they fit their prompts, with weights from the Hub:",
        f"{_job(report, 'score')} --scorers {ALIGNMENT_SCORER}",
    )


def _again(report: Report, why: str, *flags: str, run: RunEntry | None = None) -> Step:
    """Run a run again, the latest one if none is given, with further flags."""
    run = run or report.runs[-1]
    added = " ".join(flags)
    if run.by_program:
        setting = f" with the setting {_setting(flags)}" if flags else ""
        return f"Run the program of run {run.run_id} again{setting}: {why}.", ""
    if not run.command:
        which = "the same command" if len(report.runs) == 1 else f"the command of run {run.run_id}"
        return f"Run {which} again{f' with {added}' if added else ''}: {why}.", ""
    others = {each.command for each in report.runs if each.rows} - {run.command, ""}
    latest = f", the latest of {len(others) + 1} different commands," if others else ""
    started = "in the folder in which it was started"
    return f"Run this{latest} {started}: {why}:", " ".join([*_command(run, flags), *flags])


def _command(run: RunEntry, flags: tuple[str, ...]) -> list[str]:
    """The command of a run without the flags that are given anew."""
    words = [shlex.quote(word) for word in shlex.split(run.command)]
    if len(flags) == 2 and flags[0] in words:
        at = words.index(flags[0])
        del words[at : at + 2]
    return words


def _setting(flags: tuple[str, ...]) -> str:
    """Flags as an entry of the settings of a program."""
    name, *value = flags
    return f'"{name.removeprefix("--").replace("-", "_")}": {value[0] if value else "True"}'


def _job(report: Report, command: str) -> str:
    return f"{called_as(command)} --output {shlex.quote(report.output)}"


def _export(report: Report) -> str:
    return f"{_job(report, 'export')} --to {shlex.quote(report.output + '-export')}"
