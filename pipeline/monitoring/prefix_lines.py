"""What a run says of the clips that its prefix holds already: other settings, damaged clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from pipeline.dataset.verify import Verified
from pipeline.monitoring.console import say, text_of
from pipeline.wording import counted

UNKNOWN = "settings that an older version did not record"
DAMAGED_SHOWN = 20
"""Damaged clips that are named."""


def say_settings(console: Console, found: Mapping[str, int], own: Sequence[str]) -> None:
    """Say which clips of other settings than this run's a prefix holds."""
    others = {text: clips for text, clips in found.items() if text not in own}
    if others:
        kinds = "; ".join(f"{clips} of {text or UNKNOWN}" for text, clips in others.items())
        mine = f" ({own[0]})" if own else ""
        say(
            console,
            text_of("This prefix holds clips of other settings:", "bold"),
            f" {kinds}. They stay, and load as one dataset with those of this run{mine}: tell "
            "them apart by the column `settings`, or choose another --output.",
        )


def say_verified(
    console: Console, found: Verified, is_of_this_input: Callable[[str], bool]
) -> None:
    """Print what a check of all clips found, and which clips this run cannot make again."""
    if not found.damaged:
        say(console, f"Verified: {counted(found.checked, 'clip')}, none missing or damaged.")
        return
    text = f"Verified: {counted(found.checked, 'clip')}, {len(found.damaged)} missing or damaged"
    if rebuilt := found.rows.num_rows:
        text += f", {rebuilt} of them replaced by another whole clip"
    say(console, text_of(text, "bold red"), "; the others are made again.")
    for sample_id, problem in sorted(found.damaged.items())[:DAMAGED_SHOWN]:
        say(console, f"  {sample_id}: {problem}")
    taken = set(found.rows["sample_id"].to_pylist())
    others = [i for i in found.damaged if i not in taken and not is_of_this_input(i)]
    if others:
        say(
            console,
            f"{len(others)} of them are of no row of this input with these settings, so this run "
            "does not make them: run the commands that made them again.",
        )
