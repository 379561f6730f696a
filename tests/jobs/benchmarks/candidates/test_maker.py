"""Clips of an arm are made, paid and judged one by one, drafts included."""

from __future__ import annotations

from pathlib import Path

from jobs.benchmarks.candidates.maker import ROWS, TimedMaker
from pipeline.candidates.best_of import make_best
from pipeline.candidates.drafts import DraftSettings
from pipeline.scoring.conditions import RowRank
from pipeline.scoring.panel import ScoringPlan
from pipeline.storage.storage import Storage
from tests.chaos.engine import GreyScorer
from tests.pipeline.attempts.runners import FakeEngine
from tests.pipeline.candidates.test_drafts import REQUEST

SCORER = f"{GreyScorer.__module__}:{GreyScorer.__name__}"


def test_drafts_are_made_together_and_their_clip_after_them(tmp_path: Path) -> None:
    engine = FakeEngine()
    maker = TimedMaker(engine, ScoringPlan((SCORER,), "grey >= 0").panel())
    settings, rank = DraftSettings(6, 0.16, "grey"), RowRank("grey", ("grey",))
    (final,) = make_best([[REQUEST]], maker, settings, rank, Storage(str(tmp_path)))
    assert [len(batch) for batch in engine.batches] == [ROWS, 6 - ROWS, 1]
    assert len(maker.rows) == 7
    assert maker.rows[-1] is final
    assert len(final["drafts"]) == 6
    for row in maker.rows:
        times = row["times"]
        parts = times["text_s"] + times["denoise_s"] + times["decode_s"]
        assert abs(parts - row["gpu_s"]) < 1e-9
        assert row["good"] is True
