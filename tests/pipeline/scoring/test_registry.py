"""Scorers are found by name, by entry point and by class; mistakes are named."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pipeline import extensions
from pipeline.errors import UserError
from pipeline.scoring import registry
from pipeline.scoring.registry import SCORERS, expanded, load_scorers
from pipeline.scoring.scorer import ScoredClip, Scorer


class Brightness:
    """A user's own scorer."""

    name, version, scores = "brightness", "7", ("brightness",)

    def __init__(self, scale: str = "1") -> None:
        self.scale = float(scale)

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        return [{"brightness": clip.frames.mean() * self.scale} for clip in clips]


class NoScorer:
    name = "nothing"


HERE = f"{__name__}:Brightness"


def test_every_scorer_of_the_package_loads_and_keeps_the_protocol() -> None:
    names = [name for name in SCORERS if name in expanded(["basic"])]
    for scorer in load_scorers(names):
        assert isinstance(scorer, Scorer)
        assert scorer.name in SCORERS


def test_basic_is_all_that_need_no_weights_and_none_is_nothing() -> None:
    assert [each.name for each in load_scorers(["basic"])] == ["light", "movement", "detail"]
    assert load_scorers(["none"]) == ()
    assert expanded(["detail", "basic"]) == ("detail", "light", "movement")


def test_a_class_of_ones_own_is_called_with_its_argument() -> None:
    (scorer,) = load_scorers([f"{HERE}=2.5"])
    assert isinstance(scorer, Brightness)
    assert scorer.scale == 2.5


def test_installed_packages_offer_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("bright", HERE, registry.ENTRY_POINTS)

    def points(group: str) -> list[Any]:
        return [point] if group == registry.ENTRY_POINTS else []

    monkeypatch.setattr(extensions, "entry_points", points)
    (scorer,) = load_scorers(["bright"])
    assert scorer.name == "brightness"
    with pytest.raises(UserError, match=r"known are .*bright"):
        load_scorers(["britness"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["movment"], "did you mean movement"),
        (["nowhere.at.all:Thing"], "cannot import nowhere.at.all:Thing"),
        ([f"{__name__}:Missing"], "cannot import"),
        ([f"{__name__}:NoScorer"], "NoScorer is no scorer: it lacks version, scores, score"),
        ([f"{HERE}=much"], "could not convert string to float"),
        ([HERE, f"{HERE}=2"], "both give scorer brightness"),
    ],
)
def test_mistakes_are_named(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match="--scorers") as caught:
        load_scorers(names)
    assert message in str(caught.value)
