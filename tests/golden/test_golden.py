"""Ids, flags, schemas, messages and clips are what they were when they were recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.making import make
from tests.golden.record import SECTIONS, differences, read

ANEW = "deliberate? record it anew: python -m tests.golden --write --only"
SLOW = {"samples", "ids", "messages"}


@pytest.mark.timeout(0)  # a loaded machine is no change
@pytest.mark.parametrize(
    "section",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SECTIONS],
)
def test_nothing_changed(section: str, tmp_path: Path) -> None:
    found = differences(section, make(section, tmp_path))
    assert not found, "\n".join([*found[:20], f"{len(found)} differences; {ANEW} {section}"])


def test_enough_is_recorded() -> None:
    clips = read("samples")["clips"]
    made = [name for name, clip in clips.items() if "sha256" in clip and name in read("ids")]
    assert len(read("ids")) >= 200
    assert len(made) >= 120
    assert len(read("messages")) >= 60
