"""The four sentences at the top of a report: each number is counted here by hand."""

from __future__ import annotations

import datetime
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StorageError
from pipeline.monitoring.profile_lines import error_text
from pipeline.monitoring.totals import RunTotals
from pipeline.report.document import ReportVerdict
from pipeline.report.page import render
from pipeline.report.pricing.prices import Prices
from pipeline.storage.storage import Storage
from pipeline.wording import TOO_MUCH
from tests.pipeline.report.good_clips.scored_rows import record, scored
from tests.pipeline.report.made import measure, row, write


def verdict(storage: Storage, price: float | None = None) -> ReportVerdict:
    found = measure(storage, Prices({} if price is None else {"": price})).verdict
    assert found is not None
    return found


def state(storage: Storage, state: str, wanted: int, seen_at: str = "") -> Storage:
    record: dict[str, Any] = {"run_id": "r1", "state": state, "input": {"pending": wanted}}
    record["seen_at"] = seen_at
    storage.put_bytes("runs/r1.json", json.dumps(record).encode())
    return storage


def test_pairs_say_what_caching_won_and_changed(tmp_path: Path) -> None:
    rows = [row(n, wall=1.0) for n in range(4)]
    rows += [row(n, control=True, psnr=40.0, wall=2.5) for n in range(2)]
    found = verdict(write(tmp_path / "my clips", rows), 3600.0)
    assert found.got == "4 clips, 2 s of video, and 2 uncached controls; nothing failed."
    assert found.good == (
        "No: cached clips can be told from their uncached twins (mean 40.0 dB, worst 40.0 dB of "
        "only 2 pairs). Whether clips are good was not judged."
    )
    # The process was up for 100 s, at a dollar a second: 4 s of them went into the four clips.
    assert found.cost == (
        "1 min 40 s of device time, 25.00 s a clip with everything; $100, or $25,000 per 1,000 "
        "clips; 4% of the time went into the clips, the rest into other things: waiting 84%, "
        "loading the model 7%, controls 5%."
    )
    assert shlex.split(found.command)[:4] == [
        "python",
        "jobs/score.py",
        "--output",
        str(tmp_path / "my clips"),
    ]


def test_a_part_that_is_gone_is_told_with_what_brings_its_rows_back(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(n) for n in range(4)])
    assert "missing" not in verdict(storage).next
    record = {"state": "done", "parts": 2, "input": {"pending": 6}}
    storage.put_bytes("runs/x.json", json.dumps(record).encode())
    report = measure(storage, Prices())
    assert [run.lost_parts for run in report.runs if run.run_id == "x"] == [1]
    assert report.verdict is not None
    assert report.verdict.next == (
        "Run the command of run x again: 1 part of the rows is missing, and the run takes the "
        "clips over from their mp4s, without making them again."
    )
    assert any("(data/part-x-00001.parquet)" in note for note in report.notes)
    assert ">1</span> part missing</strong>" in render(report, {})
    storage.delete("data/part-x-00000.parquet")
    with pytest.raises(
        StorageError, match=r"no output rows in .*; 2 parts of the rows are missing"
    ):
        measure(storage, Prices())


def test_rows_that_an_older_run_counted_and_that_are_gone_are_told(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0), row(1), row(2, status="failed"), row(3, run="r2")])
    for run, counts in (("r1", {"ok": 4, "failed": 1, "rejected": 0}), ("r2", {"ok": 1})):
        record = {"state": "done", "result": counts}
        storage.put_bytes(f"runs/{run}.json", json.dumps(record).encode())
    report = measure(storage, Prices())
    assert [run.lost_rows for run in report.runs] == [2, 0]
    assert (
        "Run r1 counted 2 rows more than there are: parts of them are missing, whose names an "
        "older version did not record. The same command makes the samples again."
    ) in report.notes
    assert ">2</span> rows missing</strong>" in render(report, {})
    record = {"state": "done", "result": {"ok": 4}, "parts": 1}
    storage.put_bytes("runs/r1.json", json.dumps(record).encode())
    assert [run.lost_rows for run in measure(storage, Prices()).runs] == [0, 0]


FIRST = row(99, up=10.0)
"""In the first call of its process, so the others are in later ones."""


def compared(number: int, psnr: float, error: float, **more: Any) -> list[dict[str, Any]]:
    """A clip that was promised an error of 0.1, and its control, which measured another one."""
    clip = row(number, up=50.0, **more)
    quality = {"psnr_db": psnr, "ssim": 0.9, "lpips": None, "latent_error": error}
    twin = row(number, control=True, up=60.0, wall=3.0, **more) | {"quality": quality}
    return [clip | {"cache": clip["cache"] | {"promised_error": 0.1}}, twin]


def test_a_driver_that_was_killed_is_waited_for_no_longer(tmp_path: Path) -> None:
    storage = state(write(tmp_path / "killed", [row(n) for n in range(4)]), "running", 4)
    report = measure(storage, Prices())
    assert report.runs[0].state == "killed"
    assert report.verdict is not None
    assert "so far" not in report.verdict.got
    assert "Wait for the run" not in report.verdict.next
    now = datetime.datetime.now(datetime.UTC).isoformat()
    found = verdict(state(storage, "running", 4, now))
    assert "so far" in found.got
    assert found.next.startswith("Wait for the run")


def test_clips_that_are_not_stored_come_before_a_trainer(tmp_path: Path) -> None:
    storage = write(tmp_path / "torn", [row(n) for n in range(4)])
    keys = [entry.key for entry in storage.list("media/")]
    storage.delete(keys[0])
    storage.put_bytes(keys[1], b"of another size")
    found = verdict(storage)
    assert found.got == "4 clips, 2 s of video; 2 files of clips are not stored whole."
    assert found.next == (
        "Run the same command again with --verify: it makes the clips of 2 lost files again."
    )


def test_a_broken_promise_is_said_as_on_the_console_and_comes_before_a_trainer(
    tmp_path: Path,
) -> None:
    rows = [one for n in range(9) for one in compared(n, 40.0, 0.2)]
    found = verdict(write(tmp_path / "broken", rows))
    totals = RunTotals(planned=9, promised_squares=0.09, compared=9, latent_squares=9 * 0.04)
    assert TOO_MUCH in error_text(totals)
    assert "The error of caching is 2.0 times the promised one, more than usual." in found.good
    assert "choose a higher --cache.quality" in found.next
    assert found.command == ""
    rows = [one for n in range(9) for one in compared(n, 40.0, 0.09)]
    kept = verdict(write(tmp_path / "kept", rows))
    assert "promised" not in kept.good
    assert "jobs/score.py" in kept.command
    for clip, twin in zip(rows[::2], rows[1::2], strict=True):
        clip["quantisation"], twin["quality"]["latent_error"] = "int8", 9.0
    assert "promised" not in verdict(write(tmp_path / "quantised", rows)).good


def test_speed_and_looks_have_pairs_of_their_own_and_few_are_a_caution(tmp_path: Path) -> None:
    rows = [one for n in range(9) for one in compared(n, 40.0, 0.1)]
    rows[1]["quality"]["psnr_db"] = 20.0
    others = [one for n in range(9, 14) for one in compared(n, 40.0, 0.1)]
    for one in others[::2]:  # these clips were made by another run than their controls
        one["run_id"] = "r2"
    found = verdict(write(tmp_path, [FIRST, *rows], others))
    assert "worst 20.0 dB of 14 pairs" in found.good
    assert "Caching made clips 3.00 times as fast (9 pairs)." in found.cost
    two = verdict(write(tmp_path / "two", [FIRST, *rows[:4]], others))
    assert "3.00 times as fast (2 pairs, too few to trust it)" in two.cost


def test_controls_of_an_interrupted_run_come_with_the_same_command(tmp_path: Path) -> None:
    storage = state(write(tmp_path, [row(0), row(1)]), "interrupted", 4)
    assert "Not known: no controls show" in verdict(storage).good
    manifest = json.loads(storage.read_bytes("runs/r1.json"))
    manifest["config"] = {"control_fraction": 0.5}
    storage.put_bytes("runs/r1.json", json.dumps(manifest).encode())
    found = verdict(storage)
    assert (
        "Not known yet: the controls, which show what caching changed, are still to come."
        in found.good
    )
    assert "Run the same command again" in found.next
    page = render(measure(storage, Prices()), {})
    assert "--control-fraction" not in page


def test_each_gap_has_its_own_next_step_the_most_urgent_first(tmp_path: Path) -> None:
    rows = [row(0), row(1, status="failed"), row(2, status="rejected")]
    storage = write(tmp_path, rows)
    assert verdict(storage).got == (
        "1 clip, 1 s of video; 1 sample failed and 1 input row could not be used."
    )
    assert "--retry-failed" in verdict(storage).next
    assert "2 samples are not made yet" in verdict(state(storage, "interrupted", 4)).next
    now = datetime.datetime.now(datetime.UTC).isoformat()
    assert "--watch 30" in verdict(state(storage, "running", 4, now)).command
    uncached = write(tmp_path / "uncached", [row(0, nfe=10)])
    assert "caching" not in verdict(uncached).good
    assert verdict(uncached).command.endswith("uncached --scorers basic")
    cached = verdict(write(tmp_path / "cached", [row(0)]))
    assert "Not known: no controls show" in cached.good
    assert "--control-fraction 1: it makes uncached twins of all clips, which" in cached.next
    many = verdict(write(tmp_path / "many", [row(n) for n in range(20)]))
    assert "--control-fraction 0.4: it makes uncached twins of some clips, which" in many.next
    assert "no price is known" in cached.cost


def test_judged_clips_go_to_a_trainer(tmp_path: Path) -> None:
    rows = [scored(n, n >= 4, motion=n / 10, black=0.5) | {"cache": None} for n in range(16)]
    found = verdict(record(write(tmp_path / "judged", rows), "motion >= 0.4"))
    assert "12 of 16 judged clips (75%) meet the condition motion >= 0.4" in found.good
    assert "jobs/export.py" in found.command
    assert "--where good" in found.command


def test_a_cut_is_suggested_where_clips_have_a_defect_and_nowhere_else(tmp_path: Path) -> None:
    sound = [
        scored(n, motion=n / 10, sharpness=n / 10, black=0.0, cuts=0.0) | {"cache": None}
        for n in range(16)
    ]
    found = verdict(write(tmp_path / "sound", sound))
    assert found.next.startswith("These scores found no defect, but they do not see whether a clip")
    assert "--keep" not in found.command
    assert "--scorers text-alignment=" in found.command
    assert "No clip is mostly black or cut; whether clips show" in found.good
    broken = [scored(20, motion=0.5, black=1.0, cuts=0.0), scored(21, black=1.0, cuts=2.0)]
    found = verdict(write(tmp_path / "some", [*sound, *(one | {"cache": None} for one in broken)]))
    assert found.next == (
        "2 clips have a defect (2 mostly black, 1 cut); look at them, and leave them out if you "
        "agree:"
    )
    assert found.command.endswith("--keep 'black < 0.5 and cuts = 0'")
    fit = [
        one | {"scores": [*one["scores"], {"name": "text_alignment", "value": 30.0}]}
        for one in sound
    ]
    found = verdict(write(tmp_path / "fit", fit))
    assert "jobs/export.py" in found.command
    assert "--where" not in found.command


def test_the_verdict_stands_above_the_sections(tmp_path: Path) -> None:
    report = measure(write(tmp_path, [row(0)]), Prices())
    assert report.verdict is not None
    page = render(report, {})
    assert page.index(report.verdict.got) < page.index("<nav") < page.index("<section")


def test_clips_of_other_settings_than_the_pairs_are_named(tmp_path: Path) -> None:
    rows = [one for n in range(9) for one in compared(n, 40.0, 0.1)]
    others = [row(n, up=50.0) | {"settings": "demo fast"} for n in range(20, 23)]
    uncached = [row(30, nfe=10, up=50.0) | {"settings": "demo none"}]
    found = verdict(write(tmp_path / "both", [FIRST, *rows, *others, *uncached])).good
    assert "Not known of 3 cached clips of other settings (fast): they have no controls." in found
    assert "Not known" not in verdict(write(tmp_path / "one", [FIRST, *rows, *uncached])).good


def test_pairs_of_two_settings_are_told_apart(tmp_path: Path) -> None:
    rows = [one for n in range(9) for one in compared(n, 40.0, 0.09)]
    others = [one for n in range(9, 18) for one in compared(n, 30.0, 0.4)]
    for clip in others[::2]:
        clip["settings"] = "demo fast"
        clip["cache"] |= {"nfe": 2, "reused": 8, "promised_error": 0.3}
    both = verdict(write(tmp_path / "both", [FIRST, *rows, *others]))
    assert "This blends pairs of fast and planned S/3; a table below has a line" in both.good
    assert "promised" not in both.good  # 0.09 of 0.1, and 0.4 of 0.3, which is usual
    for twin in others[1::2]:  # together, twice the promise would not be reached
        twin["quality"]["latent_error"] = 3.0
    for clip in others[::2]:
        clip["cache"]["promised_error"] = 0.1
    for clip in rows[::2]:
        clip["cache"]["promised_error"] = 9.0
    broken = verdict(write(tmp_path / "broken", [FIRST, *rows, *others]))
    assert "The error of caching of fast is 30.0 times the promised one" in broken.good
    assert "choose a higher --cache.quality" in broken.next
    one = verdict(write(tmp_path / "one", [FIRST, *rows])).good
    assert "blend" not in one


def test_pairs_of_few_engine_calls_are_a_caution(tmp_path: Path) -> None:
    rows = [one | {"batch_rows": 9} for n in range(9) for one in compared(n, 40.0, 0.1)]
    found = verdict(write(tmp_path, [FIRST, *rows])).cost
    assert "3.00 times as fast (9 pairs of 1 engine call, too few to trust it" in found
