"""Clips of a prefix get the scores that they lack, once each, also after an interruption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.dataset import mp4
from pipeline.dataset.schema import media_key
from pipeline.errors import UserError
from pipeline.scoring.panel import ScorerPanel
from pipeline.scoring.score_prefix import clip_rows, score_prefix, score_row
from pipeline.scoring.scorer import ScoredClip
from pipeline.scoring.stored_scores import STORED_SCHEMA, read_stored
from pipeline.storage.storage import Storage
from tests.pipeline.scoring.stored_prefix import IDS, six_clips


class Mean:
    """Gives the mean of all pixels, and counts whom it was asked about."""

    scores: tuple[str, ...] = ()

    def __init__(self, name: str, version: str = "1") -> None:
        self.name, self.version, self.scores = name, version, (name,)
        self.asked: list[str] = []

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        self.asked += [clip.row["sample_id"] for clip in clips]
        return [{self.name: float(clip.frames.mean())} for clip in clips]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return six_clips(tmp_path)


def scored(storage: Storage, scorers: Sequence[Mean], stop_after: int = 100) -> Any:
    """Score in this process, one clip at a time; interrupted after so many clips."""
    by_name = {scorer.name: scorer for scorer in scorers}

    def here(rows: pa.Table, names: tuple[str, ...]) -> Iterator[pa.Table]:
        panel = ScorerPanel([by_name[name] for name in names])
        for place, row in enumerate(rows.to_pylist()):
            if place == stop_after:
                raise KeyboardInterrupt
            yield pa.Table.from_pylist([score_row(storage, panel, row)], schema=STORED_SCHEMA)

    names = [scorer.name for scorer in scorers]
    return score_prefix(storage, names, scorers, here, read_stored(storage))


def found(storage: Storage) -> dict[str, dict[str, float | None]]:
    rows = [row for t in clip_rows(storage, read_stored(storage)) for row in t.to_pylist()]
    return {
        row["sample_id"]: {each["name"]: each["value"] for each in row["scores"]} for row in rows
    }


@pytest.mark.slow
def test_every_clip_is_scored_once_and_damaged_ones_say_so(storage: Storage) -> None:
    mean = Mean("mean")
    done = scored(storage, [mean])
    assert (done.clips, done.before, done.scored) == (6, 0, 6)
    assert sorted(mean.asked) == [each for each in IDS if each != IDS[4]]
    assert sum(done.missing.values()) == 1
    scores = found(storage)
    assert scores[IDS[4]] == {"mean": None}
    for number in (0, 1, 2, 3, 5):
        clip = mp4.decode(storage.read_bytes(media_key(IDS[number])))
        assert scores[IDS[number]] == {"mean": float(clip.mean())}
    again = scored(storage, [mean])
    assert (again.before, again.scored) == (5, 1)  # the damaged one is looked at again
    assert sum(again.missing.values()) == 1
    assert len(mean.asked) == 5


@pytest.mark.slow
def test_an_interrupted_scoring_goes_on(storage: Storage) -> None:
    mean = Mean("mean")
    with pytest.raises(KeyboardInterrupt):
        scored(storage, [mean], stop_after=2)
    assert len(found(storage)) == 6
    done = scored(storage, [mean])
    assert (done.before, done.scored) == (2, 4)
    assert len(mean.asked) == len(set(mean.asked)) == 5


@pytest.mark.slow
def test_a_further_scorer_or_version_alone_is_asked(storage: Storage) -> None:
    first, second, newer = Mean("mean"), Mean("other"), Mean("mean", "2")
    scored(storage, [first])
    scored(storage, [first, second])
    assert len(first.asked) == 5
    assert len(second.asked) == 5
    done = scored(storage, [newer, second])
    assert done.scored == 6
    assert len(newer.asked) == 5
    assert len(second.asked) == 5
    assert set(found(storage)[IDS[0]]) == {"mean", "other"}


@pytest.mark.slow
def test_a_score_that_failed_is_tried_again(storage: Storage) -> None:
    class Flaky(Mean):
        def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
            if len(self.asked) == 2:
                self.asked.append("")
                raise MemoryError("not now")
            return super().score(clips)

    flaky = Flaky("mean")
    assert sum(scored(storage, [flaky]).missing.values()) == 2  # one, and the damaged clip
    done = scored(storage, [flaky])
    assert (done.before, done.scored) == (4, 2)
    values = [each["mean"] for sample_id, each in found(storage).items() if sample_id != IDS[4]]
    assert None not in values


def test_a_prefix_without_parts_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no data/part-"):
        scored(Storage(str(tmp_path)), [Mean("mean")])
