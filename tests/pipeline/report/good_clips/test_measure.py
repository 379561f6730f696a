"""Good clips, what one cost and what rejects clips, against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.report.pricing.prices import Prices
from pipeline.scoring.stored_scores import KeepChoice, write_choice, write_scores
from tests.pipeline.report.good_clips.scored_rows import BEGIN, good_clips, record, scored
from tests.pipeline.report.made import measure, row, write

KEEP = "motion > 0.2 and black < 0.5"


def test_a_prefix_that_nothing_was_asked_about_has_no_such_part(tmp_path: Path) -> None:
    assert measure(write(tmp_path, [row(0)]), Prices()).good_clips is None


def test_a_condition_over_no_clip_has_no_such_part(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0, status="failed"), row(1, status="rejected")])
    write_choice(storage, KeepChoice(KEEP, ("motion", "black")))
    assert measure(storage, Prices()).good_clips is None


def test_everything_that_was_spent_is_over_good_clips(tmp_path: Path) -> None:
    """The process has 7 s of loading, 5 s of clips, 3 s of failed attempts, 2 s for a control, and
    is up for 100 s; one dollar an hour."""
    rows = [scored(n, n < 2, motion=n / 10) | {"wall_s": 1.0, "gpu_s": 1.0} for n in range(5)]
    rows[0]["times"]["wasted_s"] = 3.0
    rows += [row(0, control=True, wall=2.0) | {"good": True, "score_s": 9.0}]
    found = good_clips(write(tmp_path, rows), 1.0)
    assert (found.good, found.not_good, found.not_judged) == (2, 3, 0)
    assert found.share is not None
    assert found.share.value == pytest.approx(0.4)
    assert found.cost is not None
    assert found.cost.device_s == pytest.approx(100 / 2)
    assert found.cost.dollars == pytest.approx(100 / 2 / 3600)
    assert found.cost.device_s_bounds is None  # two good clips are too few
    assert any("Only 2 good clips" in note for note in found.notes)
    assert found.score_s == pytest.approx(2.5)  # the control's is not of the dataset
    assert [(each.scorer, each.clips) for each in found.scorers] == [("own@1", 5)]


def test_the_interval_of_a_good_clip_s_cost_holds_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [scored(n, bool(rng.random() < 0.5), motion=0.0) for n in range(60)]
    for each in rows:
        each["gpu_s"] = each["wall_s"] = float(rng.uniform(0.5, 1.5))
    found = good_clips(write(tmp_path, rows), 3600.0)
    assert found.cost is not None
    bounds, cost = found.cost.device_s_bounds, found.cost.dollars_bounds
    assert bounds is not None
    assert cost is not None
    assert bounds.value == pytest.approx(found.cost.device_s) == pytest.approx(100 / found.good)
    # The normal approximation of a share's error, of what is nearly the total over good clips.
    share = found.good / 60
    spread = 1.96 * np.sqrt((1 - share) / share / 60)
    assert bounds.high - bounds.low == pytest.approx(2 * spread * bounds.value, rel=0.25)
    assert bounds.low < bounds.value < bounds.high
    assert cost.value == pytest.approx(bounds.value)  # a dollar a second


def test_each_term_says_what_it_rejects_and_what_it_rejects_alone(tmp_path: Path) -> None:
    rows = [
        scored(0, True, motion=0.5, black=0.0),
        scored(1, False, motion=0.1, black=0.0),
        scored(2, False, motion=0.1, black=0.9),
        scored(3, False, motion=0.0, black=0.1),
        scored(4, False, motion=0.9, black=0.9),
        scored(5, None, motion=0.9, black=None),
        scored(6, False, motion=0.1, black=None),
    ]
    found = good_clips(record(write(tmp_path, rows), KEEP))
    assert found.condition == KEEP
    motion, black = found.terms
    assert (motion.text, motion.fails, motion.fails_alone, motion.unknown) == (
        "motion > 0.2",
        4,
        2,
        0,
    )
    assert (black.text, black.fails, black.fails_alone, black.unknown) == ("black < 0.5", 2, 1, 2)
    assert [(each.reason, each.clips) for each in found.missing] == [("own: why", 2)]
    assert {one.clip.sample_id for one in found.kept} == {rows[0]["sample_id"]}
    fails = {one.clip.sample_id: one.fails for one in found.rejected}
    assert fails[rows[2]["sample_id"]] == ["motion > 0.2", "black < 0.5"]
    assert fails[rows[4]["sample_id"]] == ["black < 0.5"]
    assert "motion > 0.2 rejects most: 4 of 5" in found.advice


@pytest.mark.slow
def test_scores_given_later_and_the_last_condition_count(tmp_path: Path) -> None:
    rows = [scored(0, False, motion=0.1), scored(1, True, motion=0.5), row(2) | {"good": None}]
    storage = record(write(tmp_path, rows[:2], rows[2:]), "motion > 0.2")
    later = {
        "sample_id": rows[2]["sample_id"],
        "media_sha256": rows[2]["media_sha256"],
        "scores": [{"name": "motion", "value": 0.7}, {"name": "text", "value": 3.0}],
        "scorers": ["later@1"],
        "scores_missing": "",
        "score_s": 2.0,
        "perceptual_hash": "",
        "scored_at": BEGIN,
    }
    write_scores(storage, "x-00000", [later])
    before = good_clips(storage)
    assert (before.condition, before.good, before.not_good, before.not_judged) == (
        *("motion > 0.2", 1, 1, 1),
    )
    write_choice(storage, KeepChoice("motion > 0.05 and motion < 0.6", ("motion", "text")))
    found = good_clips(storage)
    assert (found.good, found.not_good, found.not_judged) == (2, 1, 0)
    assert [term.fails for term in found.terms] == [0, 1]
    assert {score.name: score.clips for score in found.scores} == {"motion": 3, "text": 1}
    assert found.score_s == pytest.approx(3.0)


def test_runs_with_conditions_of_their_own_are_said(tmp_path: Path) -> None:
    first, second = scored(0, True, motion=0.5), scored(1, False, motion=0.1) | {"run_id": "r2"}
    other = scored(2, None, motion=0.1) | {"run_id": "r3"}
    storage = record(write(tmp_path / "a", [first, second, other]), "motion > 0.4")
    record(storage, "motion > 0.2", "r2")
    found = good_clips(storage)
    assert (found.condition, found.terms) == ("", [])
    assert "motion > 0.2; motion > 0.4" in found.notes[0]
    # Clips of a run without a condition are not judged, and no term rejects them.
    storage = record(write(tmp_path / "b", [first, other]), "motion > 0.4")
    found = good_clips(record(storage, "", "r3"))
    assert found.condition == "motion > 0.4"
    assert (found.terms[0].fails, found.terms[0].unknown, found.not_judged) == (0, 0, 1)


def test_names_of_scores_and_columns_are_found_as_conditions_find_them(tmp_path: Path) -> None:
    rows = [scored(n, n > 0, motion=n / 10) | {"source": f'{{"kind":"{n} and x"}}'} for n in (0, 1)]
    keep = "MOTION > 0.05 AND cache.nfe between 3 and 9 and source->>'kind' = '1 and x' and new > 1"
    found = good_clips(record(write(tmp_path, rows), keep))
    assert [(term.fails, term.unknown) for term in found.terms] == [(1, 0), (0, 0), (1, 0), (0, 2)]


def test_near_duplicates_are_grouped_by_when_clips_were_made(tmp_path: Path) -> None:
    one, two = "p1:" + "00" * 42, "p1:" + "0f" * 42
    looks = [one, two, one, "", two, one]
    rows = [scored(n, minute=10 - n, look=look, motion=0.0) for n, look in enumerate(looks)]
    found = good_clips(write(tmp_path, rows)).duplicates
    assert (found.compared, found.groups, found.repeats, found.note) == (5, 2, 3, "")
    assert [group.first.sample_id for group in found.largest] == [
        rows[5]["sample_id"],  # the clip of this look that was made first
        rows[4]["sample_id"],
    ]
    assert [clip.sample_id for clip in found.largest[0].others] == [
        rows[2]["sample_id"],
        rows[0]["sample_id"],
    ]


def test_many_clips_are_compared_on_demand_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.good_clips.duplicates.MOST_CLIPS", 2)
    look = "p1:" + "00" * 42
    storage = write(tmp_path, [scored(n, look=look, motion=0.0) for n in range(3)])
    found = good_clips(storage).duplicates
    assert (found.compared, found.groups) == (0, 0)
    assert "--all-duplicates" in found.note
    assert good_clips(storage, all_duplicates=True).duplicates.repeats == 2
