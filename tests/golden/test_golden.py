"""Ids, flags, schemas, messages and clips are what they were when they were recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.making import make
from tests.golden.record import SECTIONS, differences, read
from tests.golden.samples import samples

ANEW = "deliberate? record it anew: python -m tests.golden --write --only"
MARKS = {
    "ids": (pytest.mark.slow,),
    "messages": (pytest.mark.slow,),
    "samples": (pytest.mark.slow, pytest.mark.variant),
}


@pytest.mark.timeout(0)  # a loaded machine is no change
@pytest.mark.parametrize(
    "section",
    [pytest.param(name, marks=MARKS.get(name, ())) for name in SECTIONS],
)
def test_nothing_changed(section: str, tmp_path: Path) -> None:
    found = differences(section, make(section, tmp_path))
    assert not found, "\n".join([*found[:20], f"{len(found)} differences; {ANEW} {section}"])


@pytest.mark.timeout(0)
@pytest.mark.slow
def test_every_fourth_clip_is_as_it_was_recorded(tmp_path: Path) -> None:
    made = samples(tmp_path, every=4)
    assert len(made["clips"]) > 70
    found = differences("samples", made, partly=True)
    assert not found, "\n".join([*found[:20], f"{len(found)} differences; {ANEW} samples"])


@pytest.mark.slow
def test_enough_is_recorded() -> None:
    clips = read("samples")["clips"]
    made = [name for name, clip in clips.items() if "sha256" in clip and name in read("ids")]
    assert len(read("ids")) >= 200
    assert len(made) >= 120
    assert len(read("messages")) >= 60
