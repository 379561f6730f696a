"""How far a run is from the runs that a profile was measured on, and what that costs.

A profile describes its network everywhere, but a plan is best where the outputs drift as they did
in the calibration. The expected losses are those of the embedded model, by plans that compute a
third of the steps (BENCHMARKS.md). Another model may lose more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sencache.profiles.metadata import ProfileMetadata

FAR_STEPS = 2.0
"""Ratio of the numbers of steps above which a run is far from the calibration."""
FAR_SIZE = 4.0
"""Ratio of area times frames above which it is."""

EXPECTED_LOSS: Mapping[str, float] = {
    "sampler": 0.5,
    "shift": 8.0,
    "guidance": 1.0,
    "num_inference_steps": 1.0,
}
"""Loss of mean PSNR to the uncached clip, in dB, that was not exceeded (shift: 8 instead of 3)."""


def differences(
    metadata: ProfileMetadata,
    facts: Mapping[str, Any],
    *,
    guided: bool | None,
    size: tuple[int, int, int] | None,
    num_inference_steps: int | None,
    adapters: Sequence[str],
) -> list[tuple[str, str]]:
    """What a run has otherwise, each as the name of the fact and a clause about it.

    Args:
        metadata: Of the profile.
        facts: Of the run, by the names of the metadata; None is not compared.
        guided: Whether the run has classifier-free guidance.
        size: Its width, height and frames.
        num_inference_steps: Its steps.
        adapters: Names of its adapters.
    """
    found = [
        (name, f"{name} {getattr(metadata, name)!r} but the run has {value!r}")
        for name, value in facts.items()
        if value is not None and getattr(metadata, name) != value
    ]
    measured = metadata.num_inference_steps
    if num_inference_steps and _ratio(num_inference_steps, measured) > FAR_STEPS:
        text = f"num_inference_steps {measured} but the run has {num_inference_steps}"
        found.append(("num_inference_steps", text))
    with_guidance = (metadata.guidance_scale or 0.0) > 1.0
    if guided is not None and guided != with_guidance:
        words = {True: "guidance", False: "no guidance"}
        found.append(("guidance", f"{words[with_guidance]} but the run has {words[guided]}"))
    own = (metadata.width, metadata.height, metadata.num_frames)
    if size is not None and all(own) and _ratio(_volume(size), _volume(own)) > FAR_SIZE:
        shapes = ["x".join(map(str, each)) for each in (own, size)]
        found.append(("size", f"clips of {shapes[0]} but the run has {shapes[1]}"))
    if adapters:
        found.append(("adapters", f"no adapters but the run has {', '.join(adapters)}"))
    return found


def warning_text(found: Sequence[tuple[str, str]]) -> str:
    """One line about all differences, with the largest expected loss."""
    losses = [EXPECTED_LOSS[name] for name, _ in found if name in EXPECTED_LOSS]
    loss = "how much plans lose by this is not known"
    if losses:
        loss = f"plans may lose {max(losses):g} dB, as much as the embedded model's at most lost"
    clauses = ", ".join(clause for _, clause in found)
    return (
        f"profile was measured with {clauses}; {loss}, and the same epsilon may reuse another "
        "number of steps"
    )


def _volume(size: Sequence[int | None]) -> float:
    width, height, frames = (float(side or 0) for side in size)
    return width * height * frames


def _ratio(a: float, b: float) -> float:
    return max(a, b) / max(min(a, b), 1.0)
