"""Index, card and report of a finished dataset, also where an interruption came between them."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.dataset.manifest import all_runs
from pipeline.export.index import INDEX_KEY
from pipeline.prefix.first_card import CARD_KEY
from pipeline.report import write as module
from pipeline.report.pricing.prices import Prices
from pipeline.report.write import PAGE_KEY, REPORT_KEY, WRITTEN, ReportWriter, write_report
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import row, write

RUN = "20260101T000000Z-000001"


def finished(folder: Path, state: str = "done") -> Storage:
    """Two clips and a control of a run that has ended."""
    rows = [row(0, run=RUN), row(1, run=RUN), row(1, run=RUN, control=True, psnr=40.0)]
    storage = write(folder, rows)
    record(storage, RUN, state, "2026-01-01T00:01:00+00:00")
    return storage


def record(storage: Storage, run: str, state: str, time: str, where: str = "") -> None:
    manifest = {"run_id": run, "state": state, "config": {}, "input": {"pending": 3}}
    manifest["where"] = where
    times = {"started_at": "2026-01-01T00:00:00+00:00", "seen_at": time}
    times["ended_at"] = "" if state == "running" else time
    storage.put_bytes(f"runs/{run}.json", json.dumps(manifest | times).encode())


def mended(storage: Storage, *, report: bool = True) -> str:
    """What a run that finds everything done says of the report."""
    console = Console(record=True, width=400)
    writer = ReportWriter(storage, console, report=report, contact_sheet=True)
    writer.mend(all_runs(storage))
    return console.export_text()


def test_an_interrupted_report_leaves_index_and_card_and_the_same_command_makes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = finished(tmp_path / "my clips")

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    console = Console(record=True, width=400)
    with monkeypatch.context() as patch:
        patch.setattr(module, "previews", stop)
        with pytest.raises(KeyboardInterrupt):
            ReportWriter(storage, console, report=True, contact_sheet=False).write()
    said = console.export_text()
    assert said.startswith("Writing the index, the card and the report")
    assert "interrupted: no new page (report/index.html), numbers (report/report.json)" in said
    assert f"python jobs/report.py --output '{tmp_path / 'my clips'}'" in said
    assert [key for key in WRITTEN if storage.exists(key)] == [INDEX_KEY, CARD_KEY]
    assert pq.read_metadata(tmp_path / "my clips" / INDEX_KEY).num_rows == 2  # no control
    said = mended(storage)
    assert f"report: {storage.uri}/{PAGE_KEY}\nnext: " in said
    assert f"\n  python jobs/score.py --output '{storage.uri}'" in said
    assert all(storage.exists(key) for key in WRITTEN)
    assert mended(storage) == ""  # everything is there


def test_a_second_signal_does_not_keep_an_interrupted_report_from_saying_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    def say(text: str) -> None:
        if heard:  # once more while it says what is missing
            os.kill(os.getpid(), signal.SIGINT)
        heard.append(text)

    storage = finished(tmp_path / "clips")
    writer = ReportWriter(storage, Console(), report=True, contact_sheet=False)
    monkeypatch.setattr(module, "previews", stop)
    monkeypatch.setattr(writer, "_say", say)
    with pytest.raises(KeyboardInterrupt):
        writer.write()
    assert heard[1].startswith("interrupted: no new page")


def test_each_file_that_is_missing_is_written(tmp_path: Path) -> None:
    storage = finished(tmp_path)
    assert "missing or older" in mended(storage)
    for key in WRITTEN:
        storage.delete(key)
        assert mended(storage, report=False) == ""  # --no-report
        assert "missing or older" in mended(storage)
        assert storage.exists(key)


def test_a_report_that_does_not_know_the_end_of_a_run_is_made_anew(tmp_path: Path) -> None:
    storage = finished(tmp_path)
    mended(storage)
    other = "20260101T000500Z-000002"
    record(storage, other, "interrupted", "2026-01-01T00:06:00+00:00")  # whatever its clock says
    assert "missing or older" in mended(storage)
    assert mended(storage) == ""
    storage.put_bytes(REPORT_KEY, b"{}")
    assert "missing or older" in mended(storage)


def test_a_killed_run_has_no_end_and_its_last_sign_of_life_counts(tmp_path: Path) -> None:
    storage = finished(tmp_path, "running")
    assert "missing or older" in mended(storage)
    assert mended(storage) == ""
    gone = f"{socket.gethostname()}/99999999"
    record(storage, RUN, "running", "2999-01-01T00:00:00+00:00", where=gone)
    assert "missing or older" in mended(storage)
    record(storage, RUN, "running", "2999-01-01T00:00:00+00:00")  # alive: it writes its own
    assert mended(storage) == ""


def test_a_prefix_without_rows_gets_no_report(tmp_path: Path) -> None:
    storage = write(tmp_path)
    assert mended(storage) == ""
    assert not storage.exists(INDEX_KEY)


@pytest.mark.slow
def test_readers_take_no_folder_for_another_or_for_what_it_was(tmp_path: Path) -> None:
    """`datasets` keeps what it has read of a folder, under the folder's own name."""

    def read(folder: Path) -> set[str]:
        found = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
        assert all(str(folder) in path for path in videos(found))
        return set(found["caption"])

    def videos(found: Any) -> list[str]:
        undecoded = found.cast_column("video", datasets.Video(decode=False))
        return [each["path"] for each in undecoded["video"]]

    one, other = tmp_path / "a/mine", tmp_path / "b/mine"
    write_report(write(one, [row(0)]), Prices())
    assert read(one) == {"clip 0"}
    write_report(write(one, [row(0)], [row(1)]), Prices())
    assert read(one) == {"clip 0", "clip 1"}
    write_report(write(other, [row(0)], [row(1)]), Prices())
    assert read(other) == {"clip 0", "clip 1"}


def test_the_card_counts_one_of_a_thing_as_one(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0), row(1, control=True), row(2, status="rejected")])
    write_report(storage, Prices())
    card = (tmp_path / CARD_KEY).read_text()
    assert "| left out | 0 failed, 1 rejected prompt, 1 control |" in card
