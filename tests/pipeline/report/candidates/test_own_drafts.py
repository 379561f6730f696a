"""How drafts agree with the clips that were made from them, against values worked out by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.schema import draft_key
from pipeline.report.candidates.document import OwnDrafts
from pipeline.report.page import render
from pipeline.report.pricing.prices import Prices
from pipeline.storage.storage import Storage
from tests.pipeline.report.good_clips.scored_rows import scored
from tests.pipeline.report.made import measure, row, write

SELECT_BY = "motion - 2 * black"
DRAFTS = ((0.1, 0.0), (0.5, 0.05), (0.7, 0.25), (0.3, 0.0))
"""Motion and black of the drafts of a sample, before `shift`: the second one is chosen."""


def finished(number: int, place: int, **scores: float) -> dict[str, Any]:
    """The finished clip of one draft's seed, made without drafts."""
    seed = 100 * number + place
    return scored(number, **scores) | {
        "sample_id": f"{seed:020x}",
        "seed": seed,
        "seed_u64": seed,
    }


def chosen(storage: Storage, number: int, shift: float, error: float) -> dict[str, Any]:
    """A clip that was chosen by drafts, and the rows of these drafts.

    Args:
        storage: The output prefix.
        number: Which clip.
        shift: Added to the motion of all drafts.
        error: The motion of the clip, less that of its draft.
    """
    drafts = []
    for place, (motion, black) in enumerate(DRAFTS):
        draft_id = f"{100 * number + place:020d}"
        scores = {"motion": motion + shift, "black": black}
        text = {"scores": [{"name": name, "value": value} for name, value in scores.items()]}
        storage.put_bytes(draft_key(draft_id), json.dumps(text).encode())
        value = scores["motion"] - 2 * black
        facts = {"sample_id": draft_id, "seed_u64": 100 * number + place, "value": value}
        drafts.append(facts | {"nfe": 2, "gpu_s": 0.5})
    clip = finished(number, 1, motion=0.5 + shift + error, black=0.05)
    return clip | {"candidate": 2, "candidates": 4, "drafts": drafts}


def prefix(folder: Path, others: int = 0) -> Storage:
    """Ten clips that were chosen by drafts.

    Args:
        folder: Where.
        others: Of so many of them the other drafts were finished, too.
    """
    storage = Storage(str(folder))
    rows = [chosen(storage, n, 0.1 * n, 0.02 if n % 2 else -0.01) for n in range(10)]
    for n in range(others):
        # The first draft becomes the best clip, and the others are as their drafts said.
        motions = {0: 0.6, 2: 0.7 - 0.5, 3: 0.3}
        rows += [
            finished(n, place, motion=0.1 * n + motion, black=0.0)
            for place, motion in motions.items()
        ]
    write(folder, rows)
    manifest = {"run_id": "r1", "state": "done", "config": {"select_by": SELECT_BY}, "input": {}}
    storage.put_bytes("runs/r1.json", json.dumps(manifest).encode())
    return storage


def drafts(storage: Storage) -> OwnDrafts:
    found = measure(storage, Prices()).drafts
    assert found is not None
    return found


def test_chosen_drafts_are_compared_with_their_clips(tmp_path: Path) -> None:
    report = measure(prefix(tmp_path), Prices())
    found = report.drafts
    assert found is not None
    assert (found.samples, found.drafts, found.nfe, found.looked_at) == (10, 40, 80, 10)
    assert found.device_s == pytest.approx(20.0)
    by = {each.score: each for each in found.scores}
    assert list(by) == [SELECT_BY, "black", "motion"]
    assert {each.samples for each in by.values()} == {10}
    values = [motion - 2 * black for motion, black in DRAFTS]
    assert by[SELECT_BY].gain.value == pytest.approx(values[1] - np.mean(values))
    assert by["motion"].gain.value == pytest.approx(0.5 - 0.4)
    assert by["black"].gain.value == pytest.approx(0.05 - 0.075)
    for name in (SELECT_BY, "motion"):
        assert by[name].difference.value == pytest.approx(0.005)
        correlation = by[name].rank_correlation
        assert correlation is not None
        assert correlation.value == pytest.approx(1.0)  # the error does not change the order
    assert by["black"].rank_correlation is None  # all of them are equal
    assert report.redraws is None  # drafts are no tries
    assert found.regret is None
    assert "regret" in found.notes[-1]
    said = " ".join(re.sub(r"<[^>]*>", " ", render(report, {})).split())
    assert "10 clips were chosen by 40 drafts, which took 80 evaluations and 20 s" in said
    assert "motion 10 1.00 0.005 95 %:" in said
    assert "is unknown, and so is what the choice by drafts misses" in said


def test_regret_is_known_where_all_drafts_were_finished(tmp_path: Path) -> None:
    report = measure(prefix(tmp_path, others=3), Prices())
    found = report.drafts
    assert found is not None
    assert found.regret is not None
    # Of clips 0, 1 and 2: the first draft's clip has 0.6 + shift, the chosen one 0.4 + shift + e.
    errors = np.array([-0.01, 0.02, -0.01])
    clips = np.stack([np.full(3, 0.6), 0.4 + errors, np.full(3, 0.2), np.full(3, 0.3)])
    assert found.regret.samples == 3
    assert found.regret.same_seed.value == 0.0
    assert found.regret.regret.value == pytest.approx(np.mean(0.2 - errors))
    assert found.regret.gain.value == pytest.approx(np.mean(clips[1] - clips.mean(axis=0)))
    # Drafts rank 0, 3, 1, 2 and clips 3, 2, 0, 1: 1 - 6 * (9 + 1 + 1 + 1) / (4 * 15).
    assert found.regret.rank_correlation is not None
    assert found.regret.rank_correlation.value == pytest.approx(-0.2)
    assert not any("regret" in note for note in found.notes)
    said = " ".join(re.sub(r"<[^>]*>", " ", render(report, {})).split())
    assert "Of 3 samples the prefix holds the finished clips of all drafts." in said


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    storage = prefix(tmp_path)
    (tmp_path / "runs/r1.json").write_text('{"config": {"select_by": "lost - motion"}}')
    lost = drafts(storage)
    assert [each.score for each in lost.scores] == ["black", "motion"]
    assert "cannot be compared with their drafts: --select-by lost - motion" in lost.notes[0]
    (tmp_path / "runs/r1.json").unlink()
    assert "10 clips of runs without a record" in drafts(storage).notes[0]
    for file in tmp_path.glob("drafts/*/*.json"):
        file.write_text("{" if "1" in file.stem else "[]")
    assert (drafts(storage).looked_at, drafts(storage).scores) == (0, [])


def test_a_failed_clip_s_drafts_cost_and_compare_nothing(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    lost = chosen(storage, 0, 0.0, 0.0)
    failed = row(0, status="failed") | {key: lost[key] for key in ("candidates", "drafts")}
    write(tmp_path, [failed])
    assert measure(storage, Prices()).drafts is None
