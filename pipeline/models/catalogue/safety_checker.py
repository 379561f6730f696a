"""Models that check prompts and clips by a part of their own, and running them without it.

The Cosmos pipelines of diffusers 0.42 load `CosmosSafetyChecker`, which needs the package
`cosmos_guardrail`. It refuses prompts and clips, and blurs faces.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

from pipeline.errors import UserError

SafetyChecker = Literal["own", "off"]

PACKAGE = "cosmos_guardrail"


def check_safety_checker(choice: SafetyChecker, name: str, *, has_one: bool) -> None:
    """Refuse a choice that the model or this machine does not allow.

    Args:
        choice: `--engine.safety-checker`.
        name: Of the model.
        has_one: Whether its pipeline loads a checker.

    Raises:
        UserError: With what would be right.
    """
    if choice == "off" and not has_one:
        raise UserError(f"--engine.safety-checker off: {name} has no safety checker; leave it out")
    if choice == "own" and has_one and find_spec(PACKAGE) is None:
        raise UserError(
            f"{name} checks prompts and clips with {PACKAGE}, which is not installed: "
            f"`pip install {PACKAGE}`, or run without a check by --engine.safety-checker off (the "
            "NVIDIA Open Model License then asks for a guardrail of your own)"
        )


class NoSafetyChecker:
    """Stands in for the checker and passes everything."""

    def to(self, device: Any) -> None:
        """Do nothing: it has no weights."""

    def check_text_safety(self, prompt: str) -> bool:
        """Pass a prompt."""
        return True

    def check_video_safety(self, frames: Any) -> Any:
        """Return the frames as they are."""
        return frames
