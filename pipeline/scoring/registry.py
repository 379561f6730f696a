"""The scorers by name, and how to add one.

`--scorers` takes names of this registry, names of entry points in the group
`sencache_pipeline.scorers`, and `module:Class`, each with or without `=ARGUMENT`
(`pipeline.extensions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.errors import UserError
from pipeline.extensions import ExtensionPoint
from pipeline.scoring.scorer import Scorer

ENTRY_POINTS = "sencache_pipeline.scorers"
"""Group of the entry points through which an installed package offers scorers."""

SCORERS: Mapping[str, str] = {
    "light": "pipeline.scoring.light:LightScorer",
    "movement": "pipeline.scoring.movement:MovementScorer",
    "detail": "pipeline.scoring.detail:DetailScorer",
    "text-alignment": "pipeline.scoring.weights.text_alignment:TextAlignmentScorer",
    "aesthetics": "pipeline.scoring.weights.aesthetics:AestheticsScorer",
    "image-classes": "pipeline.scoring.weights.image_classes:ImageClassesScorer",
    "video-score2": "pipeline.scoring.weights.video_score2:VideoScore2Scorer",
}
"""Class of each scorer that comes with the package, as `module:Class`."""

SETS: Mapping[str, tuple[str, ...]] = {"basic": ("light", "movement", "detail"), "none": ()}
"""Names that stand for several scorers: `basic` is all that need no weights."""

_POINT = ExtensionPoint(
    flag="--scorers",
    noun="scorer",
    protocol=f"{Scorer.__module__}.{Scorer.__qualname__}",
    members=("name", "version", "scores", "score"),
    group=ENTRY_POINTS,
    known=SCORERS,
    others=tuple(SETS),
)


def expanded(names: Sequence[str]) -> tuple[str, ...]:
    """Replace the names of sets by their scorers; every scorer stays once, in order."""
    return tuple(dict.fromkeys(one for name in names for one in SETS.get(name, (name,))))


def load_scorers(names: Sequence[str]) -> tuple[Scorer, ...]:
    """Make the scorers of a run.

    Args:
        names: As `--scorers` takes them; sets are expanded.

    Raises:
        UserError: A name is unknown, a class cannot be imported or called, or is no scorer; or two
            scorers share a name or the name of a score.
    """
    scorers: tuple[Scorer, ...] = tuple(_POINT.make(name) for name in expanded(names))
    owners: dict[str, str] = {}
    for scorer in scorers:
        for name in (f"scorer {scorer.name}", *scorer.scores):
            if name in owners:
                what = name if name.startswith("scorer ") else f"the score {name}"
                raise UserError(f"--scorers: {owners[name]} and {scorer.name} both give {what}")
            owners[name] = scorer.name
    return scorers
