"""The clips that get another try are those that fail the condition of this run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.dataset.committed import Ids
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import rejected_row, to_table
from pipeline.scoring.panel import ScorerPanel
from pipeline.scoring.stored_scores import KeepChoice, write_choice
from pipeline.scoring.verdicts import not_good
from pipeline.storage.storage import Storage
from tests.pipeline.candidates.test_redraws import Luck


def row(number: int, luck: float | None, status: str = "ok") -> dict[str, Any]:
    blank = rejected_row(f"{number:020x}", "", "", "demo", "r", "")
    scores = [{"name": "luck", "value": luck}]
    return blank | {"status": status, "scores": scores, "good": True}


def test_clips_are_judged_by_the_condition_of_this_run(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    panel = ScorerPanel([Luck()], "luck > 0.5")
    assert len(not_good(storage, panel, to_table([]))) == 0
    writer = PartWriter(storage, "r", part_rows=2, part_seconds=1e9)
    for each in [row(9, 0.1), row(2, 0.9), row(4, None), row(1, 0.2), row(7, 0.0, "failed")]:
        writer.add(to_table([each]))
    writer.flush()
    write_choice(storage, KeepChoice("luck > 0.95", ("luck",)))  # of an earlier scoring
    found = not_good(storage, panel, to_table([row(5, 0.3), row(6, 0.8)]))
    wanted = [f"{number:020x}" for number in (1, 5, 9)]
    assert len(found) == 3
    assert found.find(Ids.from_bytes(b"".join(map(bytes.fromhex, wanted)))).all()
