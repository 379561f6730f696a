"""The scorers by name, and how to add one.

`--scorers` takes names of this registry, names of entry points in the group
`sencache_pipeline.scorers`, and `module:Class`. Each may be followed by `=ARGUMENT`, which its
class is called with, such as the folder of its weights. A class is imported only where it scores.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from pipeline.errors import UserError, message_of
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
}
"""Class of each scorer that comes with the package, as `module:Class`."""

SETS: Mapping[str, tuple[str, ...]] = {"basic": ("light", "movement", "detail"), "none": ()}
"""Names that stand for several scorers: `basic` is all that need no weights."""


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
    scorers = tuple(_load(name) for name in expanded(names))
    owners: dict[str, str] = {}
    for scorer in scorers:
        for name in (f"scorer {scorer.name}", *scorer.scores):
            if name in owners:
                what = name if name.startswith("scorer ") else f"the score {name}"
                raise UserError(f"--scorers: {owners[name]} and {scorer.name} both give {what}")
            owners[name] = scorer.name
    return scorers


def _load(text: str) -> Scorer:
    name, given, argument = text.partition("=")
    where = _class_of(name)
    try:
        made = where(argument) if given else where()
    except UserError:
        raise
    except Exception as error:  # a user's own class can raise anything
        raise UserError(f"--scorers {text}: {type(error).__name__}: {message_of(error)}") from error
    lacking = [each for each in ("name", "version", "scores", "score") if not hasattr(made, each)]
    if lacking:
        raise UserError(
            f"--scorers {text}: {type(made).__name__} is no scorer: it lacks {', '.join(lacking)} "
            "(see pipeline.scoring.scorer.Scorer)"
        )
    scorer: Scorer = made
    return scorer


def _class_of(name: str) -> Any:
    if ":" in name:
        return _imported(name, name)
    if name in SCORERS:
        return _imported(name, SCORERS[name])
    installed = _installed()
    if name in installed:
        return _imported(name, installed[name])
    known = [*SETS, *SCORERS, *installed]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(
        f"--scorers {name}: unknown; {hint}known are {', '.join(known)}, or module:Class"
    )


def _imported(name: str, path: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        return functools.reduce(getattr, attribute.split("."), import_module(module))
    except Exception as error:  # importing a user's module can raise anything
        raise UserError(
            f"--scorers {name}: cannot import {path}: {type(error).__name__}: {message_of(error)}"
        ) from error


def _installed() -> dict[str, str]:
    """Scorers that installed packages offer, as `module:Class` by name."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
