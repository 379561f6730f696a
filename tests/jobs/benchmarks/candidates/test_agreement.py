"""Agreement of drafts with finished clips, by hand and against pandas."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from jobs.benchmarks.candidates.agreement import chosen_among, draft_agreement, spearman


def test_rank_correlation_is_that_of_ranks_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = rng.integers(0, 4, (2, 8)).astype(float)
        if len(set(one)) > 1 and len(set(other)) > 1:
            ranks = [pd.Series(each).rank() for each in (one, other)]  # ties share their mean
            assert spearman(one, other) == pytest.approx(ranks[0].corr(ranks[1]))
    assert spearman(np.ones(8), np.arange(8.0)) is None


def test_perfect_drafts_lose_nothing_and_opposite_ones_lose_all() -> None:
    finished = [[0.1, 0.4, 0.3, 0.2], [0.9, 0.6, 0.7, 0.8]]
    same = draft_agreement(finished, finished)
    assert (same.rank_correlation.mean, same.same_seed.mean, same.regret.mean) == (1.0, 1.0, 0.0)
    assert same.gain_of_four.mean == pytest.approx((0.15 + 0.15) / 2)
    opposite = draft_agreement([[-value for value in row] for row in finished], finished)
    assert (opposite.rank_correlation.mean, opposite.same_seed.mean) == (-1.0, 0.0)
    assert opposite.regret.mean == pytest.approx(0.3)
    assert opposite.regret_of_four.mean == pytest.approx(0.3)  # four of four seeds


def test_prompts_whose_clips_are_all_alike_have_no_rank_correlation() -> None:
    found = draft_agreement([[1.0] * 4, [0.0, 1.0, 2.0, 3.0]], [[0.5] * 4, [0.0, 1.0, 2.0, 3.0]])
    assert (found.undefined, found.rank_correlation.mean) == (1, 1.0)


def test_a_choice_among_some_seeds_is_the_mean_over_all_such_choices() -> None:
    rng = np.random.default_rng(1)
    drafts, finished = rng.random((2, 5, 6))
    expected = [
        np.mean(
            [
                finished[prompt][max(some, key=lambda seed: drafts[prompt][seed])]
                for some in itertools.combinations(range(6), 3)
            ]
        )
        for prompt in range(5)
    ]
    assert chosen_among(drafts, finished, 3) == pytest.approx(np.array(expected))
    # One of one seed is no choice: any seed.
    assert chosen_among(drafts, finished, 1) == pytest.approx(finished.mean(1))


@pytest.mark.parametrize("shape", [(2, 3), (3, 4)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="score per prompt and seed"):
        draft_agreement(np.zeros(shape).tolist(), np.zeros((2, 4)).tolist())
