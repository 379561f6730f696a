"""What each try won, against values worked out by hand."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.base import Estimate
from pipeline.report.candidates.document import Redraws, RedrawTry
from pipeline.report.candidates.redraws import advise_redraws
from pipeline.report.page import render
from pipeline.report.pricing.prices import Prices
from pipeline.requests.seeds import next_try
from pipeline.scoring.stored_scores import KeepChoice, write_choice
from pipeline.storage.storage import Storage
from tests.pipeline.report.good_clips.scored_rows import record, scored
from tests.pipeline.report.made import SAMPLE, measure, row, write

KEEP = "motion > 0.5"


def tries(
    number: int, motions: Sequence[float | None], *, seed: int = 0, candidates: int = 4
) -> list[dict[str, Any]]:
    """The rows of the tries at one sample, as redraws make them; None is a try that failed."""
    request = dataclasses.replace(
        SAMPLE, prompt=f"clip {number}", seed=seed, candidates=max(4, candidates)
    )
    rows = []
    for motion in motions:
        made = (
            row(number, status="failed", wasted=3.0)
            if motion is None
            else scored(number, motion > 0.5, motion=motion)
        )
        rows.append(
            made
            | {
                "sample_id": request.sample_id,
                "seed": request.seed,
                "seed_u64": request.seed,
                "candidate": request.candidate,
                "candidates": candidates,
            }
        )
        following = next_try(request)
        assert following is not None or len(rows) == 4
        request = following or request
    return rows


def redraws(storage: Storage, price: float = 3600.0) -> Redraws:
    found = measure(storage, Prices({"": price})).redraws
    assert found is not None
    return found


def test_each_try_says_what_it_made_and_won_and_what_that_took(tmp_path: Path) -> None:
    """Every clip takes a second, and the failed try three; a dollar a second."""
    samples = [[0.1, 0.9], [0.9], [0.1, 0.1, 0.1, 0.1], [0.1, None], [0.1, 0.1, 0.9]]
    rows = [each for n, motions in enumerate(samples) for each in tries(n, motions)]
    rows += [row(0, control=True) | {"good": True}]  # a control is no try
    storage = record(write(tmp_path, rows[::2], rows[1::2]), KEEP)
    report = measure(storage, Prices({"": 3600.0}))
    found = report.redraws
    assert found is not None
    assert (found.samples, found.with_good) == (5, 3)
    facts = [(t.number, t.clips, t.failed, t.good, t.won, t.device_s) for t in found.tries]
    assert facts == [
        (1, 5, 0, 1, 1, pytest.approx(5.0)),
        (2, 3, 1, 1, 1, pytest.approx(6.0)),
        (3, 2, 0, 1, 1, pytest.approx(2.0)),
        (4, 1, 0, 0, 0, pytest.approx(1.0)),
    ]
    per_won = [t.device_s_per_won for t in found.tries]
    assert per_won == [pytest.approx(5.0), pytest.approx(6.0), pytest.approx(2.0), None]
    assert [t.dollars_per_won for t in found.tries] == per_won
    said = " ".join(re.sub(r"<[^>]*>", " ", render(report, {})).split())
    assert (
        "What each try won Tries 2 to 4 won 2 good clips in 7 tries, too few to say whether" in said
    )
    assert "3 of 5 samples have a good clip" in said
    assert "1 5 0 1 1 5 s 5.00 s $5.00 2 3 1 1 1 6 s 6.00 s $6.00 3 2 0 1 1 2 s" in said
    assert "4 1 0 0 0 1 s – –" in said


def test_tries_belong_to_the_sample_of_their_prompt_and_seed(tmp_path: Path) -> None:
    """Two prompts with one seed, and two copies of a prompt, are four samples."""
    rows = [each for n in (0, 1) for seed in (0, 7) for each in tries(n, [0.1, 0.9], seed=seed)]
    del rows[3]  # the second try at a copy was never made
    found = redraws(record(write(tmp_path, rows), KEEP))
    assert (found.samples, found.with_good) == (4, 3)
    assert [(t.clips, t.won) for t in found.tries] == [(4, 0), (3, 3)]


def test_a_sample_is_won_once_whatever_a_later_condition_says(tmp_path: Path) -> None:
    rows = tries(0, [0.1, 0.9]) + tries(1, [0.01, 0.9])
    storage = record(write(tmp_path, rows), KEEP)
    assert [(t.good, t.won) for t in redraws(storage).tries] == [(0, 0), (2, 2)]
    write_choice(storage, KeepChoice("motion > 0.05", ("motion",)))
    found = redraws(storage)
    assert [(t.good, t.won) for t in found.tries] == [(1, 1), (2, 1)]
    assert "Every sample has a good clip" in found.advice


def test_first_tries_of_a_run_without_redraws_count_too(tmp_path: Path) -> None:
    """A later run with --redraw goes on from them."""
    rows = tries(0, [0.1], candidates=1) + tries(0, [0.1, 0.9])[1:] + tries(1, [0.9], candidates=1)
    found = redraws(record(write(tmp_path, rows), KEEP))
    assert (found.samples, found.with_good) == (2, 2)
    assert [(t.clips, t.won) for t in found.tries] == [(2, 1), (1, 1)]


def test_a_prefix_without_redraws_has_no_such_part(tmp_path: Path) -> None:
    storage = record(write(tmp_path, tries(0, [0.9], candidates=1)), KEEP)
    report = measure(storage, Prices())
    assert report.redraws is None
    assert report.drafts is None
    assert "What each try won" not in render(report, {})


def test_the_last_tries_are_taken_together_where_one_has_won_little(tmp_path: Path) -> None:
    """9, 5 and 4 of 20 samples are won by the first, second and third try."""
    motions = [[0.9]] * 9 + [[0.1, 0.9]] * 5 + [[0.1, 0.1, 0.9]] * 4 + [[0.1, 0.1, 0.1]] * 2
    rows = [each for n, some in enumerate(motions) for each in tries(n, some)]
    found = redraws(record(write(tmp_path, rows), KEEP))
    assert [t.won for t in found.tries] == [9, 5, 4]
    assert found.advice == (
        "Tries 2 to 3 won 9 good clips in 17 tries, at 1.89 s of device time each; a first try "
        "took 2.22 s of device time. The intervals of both meet, so one more try at 2 samples "
        "without a good clip costs about as much per good clip as new prompts do."
    )


def one_try(number: int, tried: int, won: int, device_s: float) -> RedrawTry:
    each = device_s / won if won else None
    bounds = None if each is None else Estimate(value=each, low=0.8 * each, high=1.2 * each)
    return RedrawTry(
        number=number,
        clips=tried,
        failed=0,
        good=won,
        won=won,
        device_s=device_s,
        device_s_per_won=each,
        device_s_per_won_bounds=bounds,
        dollars_per_won=None,
    )


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (one_try(2, 60, 40, 60.0), "pays if it wins as often"),  # 1.5 s against 2.5
        (one_try(2, 60, 10, 60.0), "pays only where good clips of these very prompts"),  # 6 s
        (one_try(2, 60, 20, 60.0), "costs about as much per good clip as new prompts"),  # 3 s
        (one_try(2, 60, 0, 60.0), "so one more try at 20 samples without a good clip hardly pays"),
        (one_try(2, 60, 7, 60.0), "too few to say"),
        (one_try(2, 7, 0, 7.0), "Try 2 won 0 good clips in 7 tries, too few to say"),
    ],
)
def test_the_sentence_compares_a_good_clip_of_the_last_try_with_one_of_a_new_prompt(
    last: RedrawTry, said: str
) -> None:
    assert said in advise_redraws(one_try(1, 100, 40, 100.0), last, 2, 20)


def test_where_nothing_was_tried_again_it_says_how_many_samples_lack_a_good_clip() -> None:
    said = advise_redraws(one_try(1, 100, 40, 100.0), None, 1, 1)
    assert said == "No clip was tried again yet; there is 1 sample without a good clip."
