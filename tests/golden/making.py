"""From the name of a section to its document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.golden import bad_inputs, samples, settings


def make(section: str, folder: Path) -> dict[str, Any]:
    """Run what a section records.

    Args:
        section: One of `SECTIONS`.
        folder: An empty folder for what it needs.
    """
    if section == "flags":
        return settings.flags()
    if section == "schema":
        return settings.schema()
    if section == "messages":
        return bad_inputs.messages(folder)
    return samples.ids(folder) if section == "ids" else samples.samples(folder)
