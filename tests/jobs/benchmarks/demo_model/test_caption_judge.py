"""The judge of captions as a scorer of a run."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from jobs.benchmarks.candidates.slots import JUDGE
from jobs.benchmarks.demo_model.caption_judge import FIT, RIGHT, SCORE, WANTED
from jobs.benchmarks.demo_model.captions import caption_of
from jobs.benchmarks.demo_model.evaluate import held_out_rows
from jobs.benchmarks.demo_model.sprites import attributes_of, render
from pipeline.scoring.panel import ClipScores, ScoringPlan
from pipeline.scoring.scorer import ScoredClip

ROWS = held_out_rows(1, seed=0)
CLIP = render(ROWS, torch.Generator().manual_seed(0))[0]
SHOWN = attributes_of(ROWS[0])
FRAMES = ((CLIP + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()
OTHER = {"slowly": "quickly", "quickly": "slowly"}[str(SHOWN.speed)]


def judged(caption: str, source: str = "") -> ClipScores:
    panel = ScoringPlan((JUDGE,), f"{RIGHT} = 1").panel()
    return panel.score(ScoredClip(FRAMES, 8.0, caption, {"source": source}))


def test_a_clip_that_shows_its_caption_is_right() -> None:
    scores = judged(caption_of(SHOWN)).scores
    assert scores[RIGHT] == 1.0
    assert scores[SCORE] == scores[FIT]
    assert float(scores[FIT] or 0) > 0.9


def test_a_row_may_want_more_than_its_prompt_says() -> None:
    prompt = caption_of(dataclasses.replace(SHOWN, speed=None))
    other = caption_of(dataclasses.replace(SHOWN, speed=OTHER))
    assert judged(prompt).scores[RIGHT] == 1.0
    assert judged(prompt, json.dumps({WANTED: caption_of(SHOWN)})).scores[RIGHT] == 1.0
    scores = judged(prompt, json.dumps({WANTED: other})).scores
    assert scores[RIGHT] == 0.0
    assert scores[SCORE] == pytest.approx(0.8 * float(scores[FIT] or 0))  # 4 of 5 attributes


def test_a_caption_of_another_world_has_no_score() -> None:
    found = judged("a cat on a sofa")
    assert found.scores[SCORE] is None
    assert "not a caption of the sprite world" in found.missing
