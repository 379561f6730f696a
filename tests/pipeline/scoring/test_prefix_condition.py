"""The latest condition is that of the whole prefix, and what it changes is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import rejected_row, to_table
from pipeline.scoring.stored_scores import KeepChoice, read_choice, write_choice
from pipeline.scoring.verdicts import PrefixCondition
from pipeline.storage.storage import Storage


def write_clips(storage: Storage, motions: Sequence[float | None]) -> None:
    """Clips that have `motion`, or lack it; beside them a control and a failed clip."""
    rows = []
    for number, motion in enumerate([*motions, 9.0, 9.0]):
        row = rejected_row(f"{number:020x}", "", "", "demo", "r", "")
        scores = [] if motion is None else [{"name": "motion", "value": motion}]
        rows.append(row | {"status": "ok", "scores": scores, "good": True})
    rows[-2]["control_of"] = f"{0:020x}"
    rows[-1]["status"] = "failed"
    writer = PartWriter(storage, "r", part_rows=2, part_seconds=1e9)
    for row in rows:
        writer.add(to_table([row]))
    writer.flush()


def choice(keep: str) -> KeepChoice:
    return KeepChoice(keep, ("motion", "black"))


def lines(storage: Storage, keep: str, *scorers: str, dry_run: bool = False) -> list[str]:
    """What a run says; it stores its condition unless it is a dry run."""
    found = PrefixCondition.of(storage, choice(keep), scorers or ("basic",))
    said = list(found.lines(keep, dry_run=dry_run))
    if not dry_run:
        found.store()
    return said


def test_a_condition_for_an_empty_prefix_needs_no_words(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert lines(storage, "") == []
    assert read_choice(storage) == KeepChoice()
    assert lines(storage, "motion > 0.1") == []
    assert read_choice(storage) == choice("motion > 0.1")


def test_the_clips_that_are_there_are_judged_by_the_latest_condition(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_clips(storage, [0.05, 0.2, 0.3])
    first = (
        "Another condition judges this prefix from now on: motion > 0.1 (there was none). It holds "
        "for the clips of earlier runs too: 2 of 3 clips are good"
    )
    dry = first.replace("judges this prefix from now on", "would judge this prefix")
    assert lines(storage, "motion > 0.1", dry_run=True) == [dry]
    assert read_choice(storage) == KeepChoice()
    assert lines(storage, "motion > 0.1") == [first]
    assert lines(storage, "motion > 0.1") == []
    assert lines(storage, "motion > 0.25") == [
        "Another condition judges this prefix from now on: motion > 0.25 (was: motion > 0.1). It "
        "holds for the clips of earlier runs too: 1 of 3 clips is good"
    ]
    assert read_choice(storage) == choice("motion > 0.25")
    assert lines(storage, "") == [
        "The condition of this prefix stays, because this run sets no --keep: a good clip has "
        "motion > 0.25"
    ]
    assert read_choice(storage) == choice("motion > 0.25")


def test_clips_that_lack_scores_are_counted_with_the_command_that_scores_them(
    tmp_path: Path,
) -> None:
    storage = Storage(str(tmp_path))
    write_choice(storage, choice("motion > 0.1"))
    write_clips(storage, [0.05, None, 0.3, None])
    judged, missing = lines(storage, "motion > 0.2", "basic", "m:Mine")
    assert judged.endswith("1 of 4 clips is good, 2 not judged because scores are missing")
    assert missing == (
        "2 clips of earlier runs are not judged for want of scores; to score them: python "
        f'jobs/score.py --output {tmp_path} --scorers basic,m:Mine --keep "motion > 0.2"'
    )
    (judged,) = lines(storage, "motion > 0 and source->>'x' = 'y'")[:1]
    assert judged.endswith(
        "0 of 4 clips are good, 2 not judged because scores are missing, 2 not judged because a "
        "column that the condition needs is empty"
    )


def test_clips_of_lost_rows_count_too(tmp_path: Path) -> None:
    row = rejected_row("9" * 20, "", "", "demo", "r", "")
    row |= {"status": "ok", "scores": [{"name": "motion", "value": 0.5}]}
    found = PrefixCondition.of(
        Storage(str(tmp_path)), choice("motion > 0.1"), ("basic",), to_table([row])
    )
    assert found.verdicts is not None
    assert found.verdicts.text() == "1 of 1 clip is good"
    own = choice("motion > 0.9")
    found = PrefixCondition.of(Storage(str(tmp_path)), own, ("basic",), to_table([row]))
    assert found.verdicts is not None
    assert found.verdicts.text() == "0 of 1 clip is good"
