"""What a run says of the profile that it plans with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import pyarrow as pa
from rich.console import Console

from pipeline.calibration.measurement import ChosenProfile, FirstClips
from pipeline.models.profile import PRIOR
from pipeline.monitoring.console import say
from pipeline.monitoring.totals import RunTotals
from pipeline.wording import counted, more_than_promised

if TYPE_CHECKING:
    from sencache import SensitivityProfile

SOURCES = {
    "given": "the given profile",
    "shipped": "the profile that is shipped with the model",
    "own": "the profile that runs into this prefix measured",
    "prior": "the prior, a profile of other models: none was measured for this one",
}


def say_profile(
    console: Console,
    chosen: ChosenProfile,
    first: FirstClips | None,
    asked: str,
    steps: Collection[int] = (),
    *,
    first_only: bool = False,
) -> None:
    """Say which profile the run uses, or how it gets one.

    Args:
        console: Prints it.
        chosen: The run's profile.
        first: The clips that measure it.
        asked: The value of `--cache.profile`.
        steps: Numbers of sampler steps of the clips that are planned with it.
        first_only: The run makes no clips but those that measure the profile.
    """
    if chosen.is_pending and first is not None:
        clips = counted(len(first.requests), "clip")
        if first_only:
            say(console, f"The profile is measured on {clips}, made without a cache")
            return
        say(
            console,
            f"No profile is known for these settings: the run makes {clips} without a cache "
            "first, and plans all others with what they show (--cache.measure-clips)",
        )
        return
    if chosen.profile is None:
        return
    text = f"Cached with {SOURCES[chosen.source]} ({chosen.profile.hash})"
    if first_only:
        text = f"The profile is measured already ({chosen.profile.hash})"
    if chosen.own is not None and chosen.own.requests:
        text += f" on {counted(len(chosen.own.requests), 'uncached clip')}"
    if chosen.source != "own":
        text += (
            ". It was measured on other prompts: the error of yours can be larger than promised, "
            "and controls measure it (--control-fraction)"
        )
    say(console, text)
    for number in sorted(steps):
        if problem := _far(chosen.profile, number):
            say(console, f"  Plans of {number} steps: the {problem}")
    if chosen.source == "prior" and asked != PRIOR:
        say(
            console,
            "  A run of more clips measures a profile of its own, and makes these clips once more "
            "with it; --cache.profile prior keeps them",
        )
    for reason in chosen.own.failed if chosen.own else ():
        say(console, f"  not measured: {reason}")


def _far(profile: SensitivityProfile, steps: int) -> str:
    """The warning about a run of so many steps, "" if it is near those that were measured."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        profile.check(num_inference_steps=steps)
    return str(found[0].message) if found else ""


def say_plans(say_line: Callable[[str], None], table: pa.Table, told: set[object]) -> None:
    """Say how many steps planned clips compute, once for each number of steps and profile.

    Args:
        say_line: Prints a line.
        table: Output rows.
        told: What was said already; this function adds to it.
    """
    columns = table.select(["num_inference_steps", "cache", "status"]).to_pylist()
    for row in columns:
        cache, steps = row["cache"], row["num_inference_steps"]
        key = (steps, cache["profile"])
        if row["status"] != "ok" or cache["promised_error"] is None or key in told:
            continue
        told.add(key)
        say_line(
            f"planned: {cache['nfe']} of {steps} steps computed (NFE), promised error "
            f"{cache['promised_error']:.2g} of the latents, by {SOURCES[cache['profile_source']]}"
        )


def error_text(totals: RunTotals, *, controls_to_come: bool = False) -> str:
    """The error that plans promised, beside what controls measured; "" without plans.

    Args:
        totals: Of the run.
        controls_to_come: Whether the same command will make further controls.
    """
    promised, measured = totals.promised_error, totals.latent_error
    if promised is None:
        return ""
    text = f"promised {promised:.2g} of the latents"
    if measured is None and controls_to_come:
        return f"{text}; not measured yet: the controls come with the same command"
    if measured is None:
        return (
            f"{text}, if prompts are like those of the profile; no control measured it "
            "(--control-fraction)"
        )
    text += f", {counted(totals.compared, 'control')} measured {measured:.2g}"
    if totals.quantised:
        return f"{text}, with what quantised weights cost: no plan promises that part"
    judged = more_than_promised(promised, measured)
    return f"{text}: {judged}" if judged else text
