"""What a run says of its prefix: other runs, what they left, other settings, damaged clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from pipeline.dataset.committed import Ids
from pipeline.dataset.manifest import RunStatus
from pipeline.dataset.recovery import Recovery
from pipeline.dataset.verify import Verified
from pipeline.monitoring.console import say, text_of
from pipeline.requests.run_settings import value_text
from pipeline.storage.storage import Storage
from pipeline.tensors.tensor_file import TRAJECTORY
from pipeline.wording import are, counted

UNKNOWN = "settings that an older version did not record"
DAMAGED_SHOWN = 20
"""Damaged clips that are named."""

Differences = tuple[tuple[str, Any, Any], ...]
"""Column, default of earlier runs, and default of this run, for each that differs."""


def say_storage(console: Console, storage: Storage) -> None:
    """Say it where the output cannot hold one name against two writers."""
    if not storage.conditional:
        say(
            console,
            f"{storage.uri} has no conditional puts: it replaces files, or has no way to create "
            "one only where none is. Clips get names of their own there, media/ab/ID-WRITER.mp4, "
            "so that every row stays true; two runs at once can store a clip twice.",
        )


def say_other_runs(console: Console, runs: Iterable[RunStatus]) -> None:
    """Warn of other runs that seem to write into the same prefix now."""
    for run in runs:
        if run.alive:
            say(
                console,
                text_of("ANOTHER RUN WRITES INTO THIS PREFIX:", "bold red"),
                f" {run.run_id} (process {run.where}) gave a sign of life {run.age_s:.0f} s ago. "
                "If it is still alive, stop one of the two: they do no harm to each other, but "
                "make the same clips twice.",
            )


def say_recovery(console: Console, found: Recovery) -> None:
    """Print which clips a killed run or the loss of parts had left, if clips were searched."""
    if not found.after and not found.lost:
        return
    taken = found.rows.num_rows
    causes = [
        f"run {run_id} lost {counted(len(parts), 'part')} of its rows"
        for run_id, parts in found.lost.items()
    ]
    if found.after:
        state = "has not ended yet" if found.goes_on else "ended before it was done"
        causes.insert(0, f"run {found.after} {state}")
    text = "; ".join(causes)
    text = f"{text[0].upper()}{text[1:]}"
    its, yet = "their" if len(causes) > 1 else "its", "" if found.lost else " yet"
    if taken:
        text += f": {taken} of {its} clips had no row{yet} and {are(taken)} taken over"
    elif not found.damaged:
        text += f"; all clips that {'they' if len(causes) > 1 else 'it'} stored have their rows"
    if found.damaged:
        more = f"; {found.damaged} more" if taken else f": {counted(found.damaged, 'stored clip')}"
        text += f"{more} {are(found.damaged)} damaged and will be made again"
    say(console, text)


def say_settings(
    console: Console,
    found: Mapping[str, int],
    own: Sequence[str],
    defaults: Mapping[Differences, int] | None = None,
) -> None:
    """Say which clips of other settings than this run's a prefix holds.

    Args:
        console: Prints it.
        found: Number of clips by their `settings`.
        own: `settings` of the clips of this run.
        defaults: Number of clips that differ from those of this run by defaults for rows.
    """
    others = {text or UNKNOWN: clips for text, clips in found.items() if text not in own}
    columns = dict.fromkeys(["settings"] if others else [])
    for differ, clips in (defaults or {}).items():
        columns |= dict.fromkeys(name for name, _, _ in differ)
        each = (
            f"{name} {value_text(old)} (this run: {value_text(new)})" for name, old, new in differ
        )
        others[", ".join(each)] = clips
    if others:
        kinds = "; ".join(f"{clips} of {text}" for text, clips in others.items())
        mine = f" ({own[0]})" if own else ""
        by = f"column{'s' * (len(columns) > 1)} {', '.join(f'`{name}`' for name in columns)}"
        say(
            console,
            text_of("This prefix holds clips of other settings:", "bold"),
            f" {kinds}. They stay, and load as one dataset with those of this run{mine}; a prompt "
            f"that has one of them gets another clip. Tell them apart by the {by}, or choose "
            "another --output.",
        )


def say_unsaved(console: Console, clips: int, save: Sequence[str], policy: str = "none") -> None:
    """Say how many clips of a prefix lack what this run saves, and whose trajectories it saves.

    Args:
        console: Is told it.
        clips: How many of them lack it.
        save: What is saved beside clips.
        policy: Of the run's cache.
    """
    if TRAJECTORY in save and policy != "none":
        say(
            console,
            "Trajectories are those of cached clips, which forecast or reuse some steps; add "
            "--cache.policy none for those of the model alone.",
        )
    if clips:
        text = f"{counted(clips, 'clip')} of this prefix"
        say(
            console,
            text_of(text, "bold"),
            f" {'has' if clips == 1 else 'have'} no {' or no '.join(save)}: made without --save, or"
            " not good. They stay as they are and are not made again; exports that need latents "
            "leave them out. To have all with latents, choose another --output.",
        )


def say_verified(console: Console, found: Verified) -> None:
    """Print what a check of all clips found."""
    if not found.damaged:
        say(console, f"Verified: {counted(found.checked, 'clip')}, none missing or damaged.")
        return
    text = f"Verified: {counted(found.checked, 'clip')}, {len(found.damaged)} missing or damaged"
    if rebuilt := found.rows.num_rows:
        text += f", {rebuilt} of them replaced by another whole clip"
    if left := len(found.damaged) - rebuilt:
        text += f"; {left} {are(left)} made again"
    say(console, text_of(text, "bold red"), ".")
    for sample_id, problem in sorted(found.damaged.items())[:DAMAGED_SHOWN]:
        say(console, f"  {sample_id}: {problem}")


def say_not_made_again(
    console: Console, found: Verified, known: Callable[[Ids], npt.NDArray[np.bool_]]
) -> None:
    """Print which damaged clips this run cannot make again; the input must be read to its end."""
    taken = set(found.rows["sample_id"].to_pylist())
    ids = Ids.of(bytes.fromhex(i) for i in found.damaged if i not in taken)
    others = int(np.count_nonzero(~known(ids)))
    if others:
        say(
            console,
            f"{others} of them are of no row of this input with these settings, so this run "
            "does not make them: run the commands that made them again.",
        )
