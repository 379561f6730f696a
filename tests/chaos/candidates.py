"""Trials whose runs choose among tries: what they set, and what must be chosen, by arithmetic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.requests.seeds import draft_seed, first_seed
from tests.chaos.engine import GreyScorer, grey_of

REDRAW, BEST_OF = "redraw", "best of drafts"
GOOD, TRIES, DRAFTS = 100, 3, 4
"""A clip is good from this grey level on, half of all are; most tries, and drafts per clip."""

_SCORERS = [f"{GreyScorer.__module__}:{GreyScorer.__name__}"]
SETTINGS: Mapping[str, dict[str, Any]] = {
    REDRAW: {"scorers": _SCORERS, "keep": f"grey >= {GOOD}", "redraw": TRIES - 1},
    BEST_OF: {
        "scorers": _SCORERS,
        "best_of": DRAFTS,
        "select_by": "grey",
        "cache": {"budget": 0.34},
    },
}


def expected_rows(kind: str, rows: Sequence[Mapping[str, Any]], prompts: Sequence[str]) -> int:
    """How many ok rows a trial must leave.

    The seed of a redraw is taken from its row: only the run knows it.

    Raises:
        AssertionError: A clip was chosen that should not have been, or tried too often or too
            rarely.
    """
    if kind not in SETTINGS:
        return len(prompts)
    tries: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for row in rows:
        if row["status"] == "ok":
            tries[row["caption"]][row["candidate"]] = row["seed_u64"]
    for prompt in prompts:
        made, first = tries[prompt], first_seed(None, None, prompt)
        if kind == BEST_OF:
            seeds = [draft_seed(first, place) for place in range(DRAFTS)]
            best = max(range(DRAFTS), key=lambda place: (grey_of(seeds[place]), -place))
            assert made == {best + 1: seeds[best]}, f"{prompt}: {made}, not draft {best + 1}"
            continue
        assert sorted(made) == list(range(1, len(made) + 1)), f"{prompt}: tries {sorted(made)}"
        assert made.get(1) == first, f"{prompt}: its first try has another seed"
        good = [grey_of(made[number]) >= GOOD for number in sorted(made)]
        assert not any(good[:-1]), f"{prompt}: tried again after a good clip"
        assert good[-1] or len(made) == TRIES, f"{prompt}: not tried again"
    return sum(len(made) for made in tries.values())
