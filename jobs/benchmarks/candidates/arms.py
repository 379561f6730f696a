"""The arms: ways to good clips of the same prompts.

An arm's requests are made as `jobs/generate.py` makes them, from the flags that its user would set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.benchmarks.candidates.slots import FINISHED_NFE, STEPS

UNCACHED, PLANNED = "uncached", f"planned {FINISHED_NFE}"
DRAFT_NFE = 8
SHORT_NFE = 13
"""Evaluations of a finished clip where its drafts have to be paid as well."""
DISTILLED = "distilled, 4 steps"

_PLAN = {"cache": {"budget": FINISHED_NFE / STEPS}}
_SHORT_PLAN = {"cache": {"budget": SHORT_NFE / STEPS}}


@dataclass(frozen=True)
class GoodClipArm:
    """One way to make the clips.

    Attributes:
        name: In tables.
        settings: Of its run, under their names in a YAML file.
        redraw: Further tries at a clip that is not good.
        best_of: Drafts per clip; 1 for none.
        draft_nfe: Evaluations of a draft.
        draft_frames: Frames of a draft that are decoded and scored; 0 for all.
        plain: Name of the arm without redraws, whose clips are the first tries of this one.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    redraw: int = 0
    best_of: int = 1
    draft_nfe: int = DRAFT_NFE
    draft_frames: int = 0
    plain: str = ""


ARMS = (
    GoodClipArm(UNCACHED, {"cache": {"policy": "none"}}),
    GoodClipArm(f"{PLANNED}, up to 3 redraws", _PLAN, redraw=3, plain=PLANNED),
    GoodClipArm(f"best of 4 by drafts at {DRAFT_NFE}, {PLANNED}", _PLAN, best_of=4),
    GoodClipArm(f"best of 4 by drafts at {DRAFT_NFE}, planned {SHORT_NFE}", _SHORT_PLAN, best_of=4),
    GoodClipArm(
        f"best of 4 by 5 frames of drafts at 6, planned {SHORT_NFE}",
        _SHORT_PLAN,
        best_of=4,
        draft_nfe=6,
        draft_frames=5,
    ),
    GoodClipArm(
        f"best of 3 by 5 frames of drafts at {DRAFT_NFE}, planned {SHORT_NFE}",
        _SHORT_PLAN,
        best_of=3,
        draft_frames=5,
    ),
    GoodClipArm(f"best of 2 by drafts at {DRAFT_NFE}, planned {SHORT_NFE}", _SHORT_PLAN, best_of=2),
    GoodClipArm(
        f"{DISTILLED}, up to 3 redraws",
        {"recipe": "distilled-4step"},
        redraw=3,
        plain=DISTILLED,
    ),
)
"""The first is what the others are held to."""
