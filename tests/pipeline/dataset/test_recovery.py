"""Rows are recovered from undamaged clips without a row, once."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.attempts.batch_runner import BatchRunner
from pipeline.dataset.committed import Ids, committed
from pipeline.dataset.manifest import (
    Manifest,
    RunStatus,
    Search,
    State,
    all_runs,
)
from pipeline.dataset.parts import PartWriter, missing_parts, part_files, tell_missing
from pipeline.dataset.recovery import Recovery, recover, stored_row
from pipeline.dataset.schema import media_key, to_table
from pipeline.errors import StorageError
from pipeline.monitoring.prefix_lines import say_other_runs, say_recovery
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from tests.pipeline.attempts.runners import BASE, FakeEngine, ledger_of

DEAD = "20260101T000000Z-00000a"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "out"))


def run_ended(storage: Storage, run_id: str, state: State) -> None:
    manifest = Manifest(run_id, {}, {})
    manifest.write(storage)
    if state != "running":
        manifest.end(storage, state, {})


def requests(count: int) -> list[SampleRequest]:
    return [dataclasses.replace(BASE, prompt=f"clip {n}") for n in range(count)]


def made(storage: Storage, count: int) -> list[dict[str, object]]:
    runner = BatchRunner(FakeEngine(), storage, ledger_of(storage), DEAD, batch_rows=4)
    return runner.process(requests(count))


def commit(storage: Storage, rows: list[dict[str, object]]) -> None:
    sink = PartWriter(storage, DEAD, part_rows=100, part_seconds=100)
    sink.add(to_table(rows))
    sink.flush()


def test_exactly_the_rows_that_were_lost_come_back_as_they_were(storage: Storage) -> None:
    rows = made(storage, 8)
    commit(storage, rows[:5])
    run_ended(storage, DEAD, "running")
    found = recover(storage, committed(storage), all_runs(storage))
    expected = sorted(rows[5:], key=lambda row: str(row["sample_id"]))
    expected = [row | {"encode_s": None, "upload_s": None} for row in expected]
    names = [name for name in found.rows.column_names if name not in ("encode_s", "upload_s")]
    assert found.rows.select(names).equals(to_table(expected).select(names))
    assert (found.after, found.damaged) == (DEAD, 0)
    before = committed(storage).including(found.ids)
    assert len(before.ids) == 8
    ids = Ids.from_bytes(bytes.fromhex("".join(str(row["sample_id"]) for row in rows)))
    assert before.contains(ids).all()
    assert recover(storage, before, all_runs(storage)).rows.num_rows == 0


@pytest.mark.parametrize("state", ["interrupted", "error"])
def test_every_run_that_did_not_end_as_done_is_looked_after(storage: Storage, state: State) -> None:
    made(storage, 1)
    run_ended(storage, DEAD, state)
    assert recover(storage, committed(storage), all_runs(storage)).rows.num_rows == 1


def test_nothing_is_listed_after_a_run_that_ended_well(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recover(storage, committed(storage), []).after == ""
    made(storage, 1)
    run_ended(storage, DEAD, "error")
    searched = recover(storage, committed(storage), all_runs(storage)).searched
    assert searched == {DEAD: {"seen_at": all_runs(storage)[0].seen_at, "over": True}}
    later = Manifest("20260102T000000Z-00000b", {}, {}, searched=searched)
    later.write(storage)
    later.end(storage, "done", {})
    storage.put_bytes("runs/notes.json", b"not ours")
    storage.put_bytes("runs/99999999.attempts.json", b"{}")
    listed: list[str] = []
    list_files = Storage.list
    monkeypatch.setattr(
        Storage, "list", lambda self, prefix="": listed.append(prefix) or list_files(self, prefix)
    )
    assert recover(storage, committed(storage), all_runs(storage)).after == ""
    assert listed == ["data/part-", "runs/", "data/part-"]


LATER = "20260102T000000Z-00000b"


def in_parts(storage: Storage, *parts: list[dict[str, object]], recorded: bool = True) -> None:
    """Write parts of a run that ends well."""
    sink = PartWriter(storage, DEAD, part_rows=100, part_seconds=100)
    for rows in parts:
        sink.add(to_table(rows))
        sink.flush()
    manifest = Manifest(DEAD, {}, {}, parts=sink.written if recorded else None)
    manifest.end(storage, "done", {})


def found_now(storage: Storage) -> Recovery:
    return recover(storage, committed(storage), all_runs(storage))


def said(found: Recovery) -> str:
    text = io.StringIO()
    say_recovery(Console(file=text, width=200), found)
    return text.getvalue()


@pytest.mark.parametrize(("part", "recorded"), [(0, True), (1, True), (0, False)])
def test_the_clips_of_a_part_that_is_gone_are_taken_over_once(
    storage: Storage, part: int, recorded: bool
) -> None:
    rows = made(storage, 5)
    parts = (rows[:2], rows[2:])
    in_parts(storage, *parts, recorded=recorded)
    assert (found_now(storage).found, said(found_now(storage))) == (False, "")
    storage.delete(f"data/part-{DEAD}-{part:05d}.parquet")

    found = found_now(storage)
    expected = sorted(str(row["sample_id"]) for row in parts[part])
    assert sorted(found.rows["sample_id"].to_pylist()) == expected
    assert set(found.rows["run_id"].to_pylist()) == {DEAD}
    assert said(found) == (
        f"Run {DEAD} lost 1 part of its rows: {len(expected)} of its clips had no row and are "
        "taken over\n"
    )
    missing = missing_parts(part_files(storage), all_runs(storage))
    assert missing == {DEAD: [part]}
    name = f"data/part-{DEAD}-{part:05d}.parquet"
    assert f"1 part of the rows is missing ({name})" in tell_missing(missing)

    later = Manifest(LATER, {}, {}, searched=found.searched, parts=1)
    later.write(storage)  # one that is killed now leaves them to the next run
    assert found_now(storage).rows.num_rows == len(expected)
    sink = PartWriter(storage, LATER, part_rows=100, part_seconds=100)
    sink.add(found.rows)
    sink.flush()
    later.end(storage, "done", {})
    assert len(committed(storage).ids) == len(rows)
    assert not found_now(storage).found  # and media/ is not listed again
    assert found_now(storage).searched == {}

    storage.delete(f"data/part-{LATER}-00000.parquet")  # the same clips lose their rows again
    again = found_now(storage)
    assert (again.lost, again.rows.num_rows) == ({LATER: [0]}, len(expected))


def test_a_part_without_clips_leaves_nothing_to_take_over(storage: Storage) -> None:
    """What failed is pending again; the run records its search, so the next one does not search."""
    rows = made(storage, 2)
    failed = [row | {"status": "failed", "sample_id": f"{n:020x}"} for n, row in enumerate(rows)]
    in_parts(storage, rows, failed)
    storage.delete(f"data/part-{DEAD}-00001.parquet")
    found = found_now(storage)
    assert (found.found, found.rows.num_rows, found.lost) == (True, 0, {DEAD: [1]})
    assert found.searched[DEAD].get("lost") == [1]
    assert said(found) == (
        f"Run {DEAD} lost 1 part of its rows; all clips that it stored have their rows\n"
    )


def test_parts_are_missed_of_runs_that_are_over_alone(storage: Storage) -> None:
    """One that runs may write the part now; a Dataset gives each part a name of its own."""
    (row,) = made(storage, 1)
    for name in (f"{DEAD}-0000000000ab", f"{DEAD}-0000000000cd"):
        storage.put_bytes(f"data/part-{name}-00000.parquet", b"")
    storage.put_bytes(f"data/part-{LATER}-00001.parquet", b"")
    files = part_files(storage)
    alive = RunStatus(LATER, "running", 1.0, "elsewhere/1", "12:00", 10.0)
    dataset = RunStatus(DEAD, "done", 1.0, "elsewhere/2", "12:00", 10.0)
    assert missing_parts(files, [alive, dataset]) == {}
    ended = dataclasses.replace(alive, state="interrupted", parts=4)
    assert missing_parts(files, [ended, dataset]) == {LATER: [0, 2, 3]}
    assert missing_parts(files, []) == {LATER: [0]}  # its record is gone as well
    both = dataclasses.replace(
        recover(storage, committed(Storage(f"{storage.uri}/none")), [ended]), lost={LATER: [0, 2]}
    )
    assert (both.after, both.rows["sample_id"].to_pylist()) == (LATER, [row["sample_id"]])
    assert said(both).startswith(
        f"Run {LATER} ended before it was done; run {LATER} lost 2 parts of its rows: 1 of their "
        "clips had no row and is taken over"
    )


def test_a_run_that_outlived_the_beginning_of_a_later_one_is_looked_after(
    storage: Storage,
) -> None:
    """The later run may have looked for clips before the earlier one had left them."""
    made(storage, 1)
    before = committed(storage)

    def after(*runs: RunStatus) -> str:
        return recover(storage, before, runs).after

    def note(over: bool, seen_at: str = "12:00") -> dict[str, Search]:
        return {"early": Search(seen_at=seen_at, over=over)}

    early = RunStatus("early", "running", 200, "elsewhere/1", "12:00", 300)
    done = functools.partial(RunStatus, "later", "done", 100, "h/1", "13:00")
    assert after(done(200, note(over=False)), early) == "early"
    assert after(done(200, note(over=True)), early) == ""
    assert after(done(200), dataclasses.replace(early, state="done")) == ""
    # A later run lived for minutes after it had found this one, which gave no sign of life since.
    assert early.is_over([done(200, note(over=False))])
    assert not early.is_over([done(20, note(over=False))])
    assert not early.is_over([done(200, note(over=False, seen_at="11:59"))])
    assert not early.is_over([done(200)])
    assert dataclasses.replace(early, state="interrupted").is_over([])
    here = dataclasses.replace(early, where=f"{socket.gethostname()}/{os.getpid()}")
    assert not here.is_over([])


HOUR = datetime.timedelta(hours=1)


@pytest.mark.parametrize("fast", ["the done run", "the killed run", "neither", "nine done runs"])
def test_no_clock_hides_clips(storage: Storage, fast: str) -> None:
    made(storage, 3)
    now = datetime.datetime.now(datetime.UTC)
    killed = now - HOUR + (2 * HOUR if fast == "the killed run" else 0 * HOUR)
    done = now - 2 * HOUR + (3 * HOUR if fast in ("the done run", "nine done runs") else 0 * HOUR)
    for number, (began, state) in enumerate(
        [(killed, "running"), *[(done, "done")] * (9 if fast.startswith("nine") else 1)]
    ):
        manifest = Manifest(f"{began:%Y%m%dT%H%M%SZ}-00000{number}", {}, {}, state=state)  # type: ignore[arg-type]
        manifest.where = "elsewhere/1"
        manifest.started_at = began.isoformat()
        manifest.seen_at = (began + HOUR / 6).isoformat()
        manifest.ended_at = manifest.seen_at if state == "done" else ""
        manifest.write(storage)
    assert recover(storage, committed(storage), all_runs(storage)).rows.num_rows == 3


def test_a_run_that_goes_on_is_not_said_to_have_ended(storage: Storage) -> None:
    made(storage, 1)
    run_ended(storage, DEAD, "running")
    text = io.StringIO()
    found = recover(storage, committed(storage), all_runs(storage))
    say_recovery(Console(file=text, width=200), found)
    assert text.getvalue() == (
        f"Run {DEAD} has not ended yet: 1 of its clips had no row yet and is taken over\n"
    )


def test_a_run_that_left_nothing_is_mentioned_calmly(storage: Storage) -> None:
    run_ended(storage, DEAD, "error")
    text = io.StringIO()
    say_recovery(
        Console(file=text, width=200), recover(storage, committed(storage), all_runs(storage))
    )
    assert text.getvalue() == (
        f"Run {DEAD} ended before it was done; all clips that it stored have their rows\n"
    )


def test_runs_that_are_known_are_not_asked_again(storage: Storage) -> None:
    for run_id in (DEAD, "20260102T000000Z-00000b", "20260103T000000Z-00000c"):
        run_ended(storage, run_id, "running")
    (new,) = all_runs(storage, {DEAD, "20260103T000000Z-00000c"})
    assert new.run_id == "20260102T000000Z-00000b"


def test_damaged_and_foreign_clips_are_counted_and_left(storage: Storage) -> None:
    rows = made(storage, 4)
    run_ended(storage, DEAD, "error")
    keys = [media_key(str(row["sample_id"])) for row in rows]
    data = storage.read_bytes(keys[0])
    storage.put_bytes(keys[0], data[: len(data) // 2])
    storage.put_bytes(keys[1], data)  # whole, but of another sample
    storage.put_bytes(keys[2], b"")
    storage.put_bytes("media/ab/notes.txt", b"no clip")
    found = recover(storage, committed(storage), all_runs(storage))
    assert found.rows["sample_id"].to_pylist() == [rows[3]["sample_id"]]
    assert found.damaged == 3
    text = io.StringIO()
    say_recovery(Console(file=text, width=200), found)
    assert text.getvalue() == (
        f"Run {DEAD} ended before it was done: 1 of its clips had no row yet and is taken over; "
        "3 more are damaged and will be made again\n"
    )


def test_a_damaged_clip_is_replaced_when_its_sample_is_made(storage: Storage) -> None:
    (row,) = made(storage, 1)
    key = media_key(str(row["sample_id"]))
    storage.put_bytes(key, b"torn")
    assert stored_row(storage, str(row["sample_id"])) is None
    (again,) = made(storage, 1)
    stored = stored_row(storage, str(row["sample_id"]))
    assert stored is not None
    assert stored["media_sha256"] == again["media_sha256"]


def test_the_first_of_two_workers_wins_and_both_hand_on_its_row(storage: Storage) -> None:
    (first,) = made(storage, 1)
    (second,) = made(storage, 1)
    assert second["media_sha256"] == first["media_sha256"]
    assert second["created_at"] == first["created_at"]


def test_a_run_that_gave_a_sign_lately_is_named(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(DEAD, {}, {})
    with manifest.alive(storage, every_s=0.01):
        deadline = time.monotonic() + 300
        while not storage.exists(f"runs/{DEAD}.json"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    (sign,) = all_runs(storage)
    assert sign.alive
    assert sign.where == f"{socket.gethostname()}/{os.getpid()}"
    text = io.StringIO()
    say_other_runs(Console(file=text, width=400), [sign])
    assert f"ANOTHER RUN WRITES INTO THIS PREFIX: {DEAD}" in text.getvalue()
    assert "stop one of the two" in text.getvalue()
    long_ago = json.loads(storage.read_bytes(f"runs/{DEAD}.json"))
    long_ago["seen_at"] = "2026-01-01T00:00:00+00:00"
    storage.put_bytes(f"runs/{DEAD}.json", json.dumps(long_ago).encode())
    assert not all_runs(storage)[0].alive
    with monkeypatch.context() as mac:  # which has no /proc
        mac.setattr(Path, "exists", lambda path: False)
        assert sign.alive
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = dataclasses.replace(sign, where=f"{socket.gethostname()}/{ended.pid}")
    assert not gone.alive
    assert dataclasses.replace(gone, where=f"elsewhere/{ended.pid}").alive
    manifest.end(storage, "done", {})
    assert not all_runs(storage)[0].alive


def test_a_damaged_manifest_is_named(storage: Storage) -> None:
    storage.put_bytes(f"runs/{DEAD}.json", b"{")
    with pytest.raises(StorageError, match=f"runs/{DEAD}.json is damaged"):
        recover(storage, committed(storage), all_runs(storage))


def test_the_row_of_a_stored_clip_is_found_and_none_where_there_is_no_clip(
    storage: Storage,
) -> None:
    (row,) = made(storage, 1)
    sample_id = str(row["sample_id"])
    found = stored_row(storage, sample_id)
    assert found is not None
    assert found["video"] == {"bytes": None, "path": media_key(sample_id)}
    assert stored_row(storage, "0" * 20) is None
