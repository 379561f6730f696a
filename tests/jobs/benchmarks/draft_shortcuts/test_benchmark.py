"""What giving up drafts half-way costs, by hand; and plans that begin as a draft does."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.benchmarks.draft_shortcuts.benchmark import gain_of_four
from jobs.benchmarks.draft_shortcuts.shared_start import SharedStart
from sencache import SensitivityProfile
from sencache.measuring import prior_profile

FINISHED = np.array([[0.0, 1.0, 2.0, 3.0]])
BACKWARDS = FINISHED[:, ::-1]


@pytest.mark.parametrize(
    ("early", "whole", "kept", "chosen"),
    [
        (FINISHED, FINISHED, 4, 3.0),
        (BACKWARDS, FINISHED, 4, 3.0),  # nothing is given up, so the half does not matter
        (BACKWARDS, FINISHED, 2, 1.0),  # the two worst are left, the better of them wins
        (BACKWARDS, FINISHED, 1, 0.0),
        (FINISHED, BACKWARDS, 2, 2.0),
    ],
)
def test_the_best_of_the_drafts_that_are_completed_is_finished(
    early: np.ndarray, whole: np.ndarray, kept: int, chosen: float
) -> None:
    assert gain_of_four(early, whole, FINISHED, kept=kept)["mean"] == chosen - 1.5


def test_a_shared_start_computes_the_first_steps_of_the_draft() -> None:
    profile: SensitivityProfile = prior_profile("flow")
    times = tuple(np.linspace(1.0, 0.02, 50).tolist())
    moves = tuple([-0.02] * 50)
    draft = SharedStart(profile, 8, 8, 0).plan(times, moves)
    free = SharedStart(profile, 17, 8, 0).plan(times, moves)
    for shared in (1, 2, 3):
        method = SharedStart(profile, 17, 8, shared)
        plan = method.plan(times, moves)
        assert plan.computed[:shared] == draft.computed[:shared]
        assert len(plan.computed) == 17
        assert method.new == 17 - shared
        assert plan.error >= free.error
