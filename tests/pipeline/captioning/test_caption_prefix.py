"""Clips of a prefix get one caption per captioner and version, also after an interruption."""

from __future__ import annotations

import html
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.caption_prefix import CaptionedPrefix, caption_prefix
from pipeline.captioning.captioner import Captioner, caption_row, load_captioner
from pipeline.captioning.stored_captions import CAPTION_SCHEMA, read_captions
from pipeline.dataset import mp4
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import media_key, to_table
from pipeline.errors import UserError
from pipeline.export.export import export
from pipeline.export.select import select
from pipeline.report.pricing.prices import Prices
from pipeline.report.write import write_report
from pipeline.scoring.score_prefix import clip_rows
from pipeline.scoring.scorer import Frames
from pipeline.scoring.stored_scores import KeepChoice, read_stored, write_choice
from pipeline.storage.storage import Storage
from tests.pipeline.scoring.stored_prefix import DAMAGED, IDS, six_clips

WHOLE = [each for each in IDS if each != DAMAGED]


class Tells:
    """Says what it is given, and keeps whom it was asked about."""

    name = "tells"

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.asked: list[str] = []

    def caption(self, frames: Frames, fps: float, prompt: str) -> str:
        self.asked.append(prompt)
        return f" {self.version}: {frames.shape} {frames.mean():.6f} at {fps} of {prompt}\n"


class Picky(Tells):
    """Fails at one clip, gives no text for another, and changes frames of a third."""

    def caption(self, frames: Frames, fps: float, prompt: str) -> str:
        if prompt == "caption 1":
            raise RuntimeError("cannot\nsee this")
        if prompt == "caption 2":
            return " "
        if prompt == "caption 3":
            frames[:] = 0
        return super().caption(frames, fps, prompt)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return six_clips(tmp_path)


def captioned(
    storage: Storage, captioner: Captioner, stop_after: int = 100, *, only_good: bool = False
) -> CaptionedPrefix:
    """Caption in this process, one clip at a time; interrupted after so many clips."""

    def here(rows: pa.Table) -> Iterator[pa.Table]:
        for place, row in enumerate(rows.to_pylist()):
            if place == stop_after:
                raise KeyboardInterrupt
            found = [caption_row(storage, captioner, row)]
            yield pa.Table.from_pylist(found, schema=CAPTION_SCHEMA)

    stored = read_captions(storage)
    return caption_prefix(storage, captioner, here, stored, only_good=only_good)


def found(storage: Storage) -> dict[str, tuple[str, str, str]]:
    """Prompt, new caption and captioner of each clip, as readers see them."""
    captions = read_captions(storage)
    tables = [captions.over(table) for table in clip_rows(storage, read_stored(storage))]
    return {
        row["sample_id"]: (row["caption"], row["recaption"], row["recaptioner"])
        for table in tables
        for row in table.to_pylist()
    }


def test_captions_are_of_the_frames_and_prompts_stay(storage: Storage) -> None:
    tells = Tells()
    done = captioned(storage, tells)
    assert (done.clips, done.before, done.captioned) == (6, 0, 5)
    assert sum(done.failed.values()) == 1
    for sample_id, (prompt, text, captioner) in found(storage).items():
        assert prompt == f"caption {IDS.index(sample_id)}"
        if sample_id == DAMAGED:
            assert (text, captioner) == ("", "")
        else:
            frames = mp4.decode(storage.read_bytes(media_key(sample_id)))
            assert text == f"1: {frames.shape} {np.mean(frames):.6f} at 8 of {prompt}"
            assert captioner == "tells@1"


@pytest.mark.slow
def test_nothing_is_captioned_twice_and_what_failed_is_tried_again(storage: Storage) -> None:
    tells = Tells()
    with pytest.raises(KeyboardInterrupt):
        captioned(storage, tells, stop_after=2)
    assert sum(bool(text) for _, text, _ in found(storage).values()) == 2
    done = captioned(storage, tells)
    assert (done.before, done.captioned, sum(done.failed.values())) == (2, 3, 1)
    done = captioned(storage, tells)  # only the damaged one is looked at again
    assert (done.before, done.captioned, sum(done.failed.values())) == (5, 0, 1)
    assert sorted(tells.asked) == [f"caption {IDS.index(each)}" for each in WHOLE]


@pytest.mark.slow
def test_another_version_describes_again_and_its_caption_counts(storage: Storage) -> None:
    captioned(storage, Tells("1"))
    done = captioned(storage, Tells("2"))
    assert (done.before, done.captioned) == (0, 5)
    assert {captioner for _, _, captioner in found(storage).values()} == {"tells@2", ""}
    assert captioned(storage, Tells("1")).before == 5


def test_a_captioner_that_fails_costs_its_caption_alone(storage: Storage) -> None:
    done = captioned(storage, Picky())
    texts = {prompt: text for prompt, text, _ in found(storage).values()}
    assert [prompt for prompt, text in texts.items() if text] == ["caption 0", "caption 5"]
    assert done.captioned == 2
    reasons = sorted(done.failed)
    assert reasons[0].startswith("RuntimeError: cannot see this")
    assert "ValueError: assignment destination is read-only" in reasons
    assert "ValueError: the captioner gave no text" in reasons
    assert f"{media_key(DAMAGED)} has " in reasons[-1]


def test_only_good_clips_are_captioned_where_that_is_asked_for(storage: Storage) -> None:
    write_choice(storage, KeepChoice("caption < 'caption 2'", ()))
    done = captioned(storage, Tells(), only_good=True)
    assert (done.clips, done.not_good, done.captioned) == (6, 4, 2)


@pytest.mark.slow
def test_controls_and_clips_that_were_made_anew_keep_no_old_caption(storage: Storage) -> None:
    captioned(storage, Tells())
    (row, *_) = next(iter(clip_rows(storage, read_stored(storage)))).to_pylist()
    captions = read_captions(storage)
    (anew,) = captions.over(to_table([row | {"media_sha256": "0" * 64}])).to_pylist()
    assert anew["recaption"] == ""
    writer = PartWriter(storage, "s", part_rows=1, part_seconds=1e9)
    writer.add(to_table([row | {"sample_id": "c" * 20, "control_of": IDS[0]}]))
    done = captioned(storage, Tells())
    assert (done.clips, done.before, done.captioned) == (6, 5, 0)


@pytest.mark.slow
def test_exports_the_index_the_card_and_the_report_take_captions(
    storage: Storage, tmp_path: Path
) -> None:
    captioned(storage, Picky())
    texts = {i: text or prompt for i, (prompt, text, _) in found(storage).items()}
    for with_captions in (True, False):
        target = Storage(str(tmp_path / f"export-{with_captions}"))
        with select(
            storage, splits={"train": 1.0}, shard_rows=9, recaptions=with_captions
        ) as chosen:
            assert chosen.with_prompt == (4 if with_captions else 0)
            export(storage, target, chosen, "webdataset")
        with tarfile.open(fileobj=io.BytesIO(target.read_bytes("train-00000.tar"))) as tar:
            files = {entry.name: tar.extractfile(entry) for entry in tar.getmembers()}
            captions = {
                n[:-4]: f.read().decode() for n, f in files.items() if f and n[-3:] == "txt"
            }
            row = json.load(files[f"{IDS[0]}.json"] or io.BytesIO())
        prompts = {each: f"caption {IDS.index(each)}" for each in WHOLE}
        assert captions == ({i: texts[i] for i in WHOLE} if with_captions else prompts)
        assert (row["caption"], row["recaption"]) == ("caption 0", texts[IDS[0]])
        assert row["recaptioner"] == "tells@1"

    report = write_report(storage, Prices())
    assert report.recaptions is not None
    assert [(one.captioner, one.clips) for one in report.recaptions.captioners] == [("tells@1", 2)]
    assert report.recaptions.without == 4
    assert sum(one.clips for one in report.recaptions.missing) == 4
    index = pq.read_table(io.BytesIO(storage.read_bytes("metadata.parquet"))).to_pylist()
    assert {row["sample_id"]: row["recaption"] or row["caption"] for row in index} == texts
    card = storage.read_bytes("README.md").decode()
    assert "by `tells@1` (2 clips); 4 clips without" in html.unescape(card)
    assert "2 by tells@1" in html.unescape(storage.read_bytes("report/index.html").decode())


@pytest.mark.slow
def test_an_export_that_is_under_way_refuses_other_captions(
    storage: Storage, tmp_path: Path
) -> None:
    target = Storage(str(tmp_path / "export"))

    def exported() -> None:
        with select(storage, splits={"train": 1.0}, shard_rows=9, recaptions=True) as chosen:
            export(storage, target, chosen, "fastvideo")

    exported()
    entries = json.loads(target.read_bytes("train/videos2caption.json"))
    assert {entry["cap"][0] for entry in entries} == {f"caption {IDS.index(i)}" for i in WHOLE}
    captioned(storage, Tells())
    with pytest.raises(UserError, match="holds another export"):
        exported()


def test_captioners_are_named_by_class_and_mistakes_are_one_line() -> None:
    loaded = load_captioner(f"{__name__}:Tells=7")
    assert isinstance(loaded, Captioner)
    assert loaded.version == "7"
    for text, problem in (
        ("vision-langage=x", "did you mean vision-language"),
        (f"{__name__}:Storage=x", "Storage is no captioner: it lacks name, version, caption"),
        ("vision-language", "needs weights"),
    ):
        with pytest.raises(UserError, match="--captioner") as caught:
            load_captioner(text)
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)
