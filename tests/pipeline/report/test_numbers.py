"""The numbers that people act on, against values worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset.schema import rejected_row
from pipeline.errors import StorageError
from pipeline.report.document import Report
from pipeline.report.pricing.prices import Prices, read_table
from pipeline.report.tables.clip_kinds import each_kind
from pipeline.requests.run_settings import ROW_SETTINGS
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import measure, row, write


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """One process on two devices at 7.2 dollars an hour each, which is 0.002 dollars a second.

    Seconds of the process, each on both devices: 7 loading, 10 + 30 + 20 for clips, 5 for failed
    attempts, 40 for a control, 8 idle; 120 in all.
    """
    rows = [
        row(0, wall=10.0, group=2, nfe=3),
        row(1, wall=30.0, group=2, nfe=4, wasted=5.0, attempts=2),
        row(2, wall=20.0, group=2, nfe=8),
        row(2, wall=40.0, group=2, control=True, up=120.0),
    ]
    return measure(write(tmp_path_factory.mktemp("numbers"), rows), Prices({"": 7.2}))


def test_device_time_by_what_it_went_into(report: Report) -> None:
    spent = report.device_s
    assert spent.model_dump() == pytest.approx(
        {
            "clips": 120.0,
            "controls": 80.0,
            "failed_attempts": 10.0,
            "drafts": 0.0,
            "regenerated": 0.0,
            "loading": 14.0,
            "idle": 16.0,
            "total": 240.0,
        }
    )


def test_money_by_what_it_went_into(report: Report) -> None:
    assert report.dollars is not None
    assert report.dollars.model_dump() == pytest.approx(
        {
            "clips": 0.24,
            "controls": 0.16,
            "failed_attempts": 0.02,
            "drafts": 0.0,
            "regenerated": 0.0,
            "loading": 0.028,
            "idle": 0.032,
            "total": 0.48,
        }
    )


def test_what_a_clip_costs(report: Report) -> None:
    head = report.headline
    assert head.gpu_s_per_clip == pytest.approx(130 / 3)  # clips and failed attempts, 3 clips
    assert head.dollars_per_clip == pytest.approx(0.26 / 3)
    assert head.dollars_per_clip_all_in == pytest.approx(0.16)  # 0.48 dollars over 3 clips


def test_what_a_clip_is_made_of(report: Report) -> None:
    head = report.headline
    assert head.nfe_mean == pytest.approx(5.0)  # (3 + 4 + 8) / 3
    assert head.reuse_ratio == pytest.approx(0.5)  # 15 of 30 steps
    # Each clip has 5 frames at 8 a second: 1.875 s of video in 130 device-seconds.
    assert report.totals.video_s == pytest.approx(1.875)
    assert head.video_s_per_gpu_hour == pytest.approx(1.875 * 3600 / 130)
    assert (report.totals.ok, report.totals.controls, report.totals.extra_attempts) == (3, 1, 1)


def test_what_slices_cost(report: Report) -> None:
    (by_model,) = report.cost_by_model
    assert (by_model.clips, by_model.nfe_mean) == (3, pytest.approx(5.0))
    assert by_model.gpu_s_per_clip == pytest.approx(130 / 3)
    assert by_model.dollars_per_clip == pytest.approx(0.26 / 3)


def test_nothing_is_divided_by_no_clip(tmp_path: Path) -> None:
    head = measure(write(tmp_path, [row(0, status="failed", wasted=3.0)]), Prices({"": 1})).headline
    assert (head.dollars_per_clip, head.dollars_per_clip_all_in) == (None, None)
    assert (head.gpu_s_per_clip, head.video_s_per_gpu_hour) == (None, 0.0)
    assert (head.nfe_mean, head.reuse_ratio, head.psnr_db) == (None, None, None)


def test_everything_that_is_counted(tmp_path: Path) -> None:
    """Two clips, one made twice and cut off; two failed ones, a failed control, a bad row."""
    cut = row(1, wall=2.0, nfe=6, attempts=3) | {"prompt_truncated": True, "media_bytes": 1000}
    cut |= {"tensors": {"path": "tensors/x", "bytes": 77}}
    first = [row(0) | {"media_bytes": 24}, row(1), row(2, status="failed", attempts=4)]
    first += [row(0, status="failed", control=True, attempts=2), row(3, status="failed")]
    first += [rejected_row("0" * 20, "c", "f:2", "demo", "r1", "bad")]
    storage = write(tmp_path, first[2:], [cut, first[0]], [first[1]], stored=False)
    totals = measure(storage, Prices()).totals
    assert totals.model_dump() == {
        "rows": 7,
        "samples": 6,
        "ok": 2,
        "failed": 2,
        "rejected": 1,
        "controls": 0,
        "controls_failed": 1,
        "superseded": 1,
        "extra_attempts": 2 + 3 + 1,
        "video_s": pytest.approx(2 * 5 / 8),
        "media_bytes": 1024,
        "steps": 20,
        "nfe": 4 + 6,
        "truncated": 1,
        "lost": 3,
        "tensor_clips": 1,
        "tensor_bytes": 77,
    }


def test_runs_are_those_of_rows_and_of_manifests(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0, run="r1"), row(1, run="r1"), row(2, run="r3")])
    told = {
        "r2": {"state": "done", "started_at": "monday", "ended_at": "friday"},
        "r3": {"state": "error", "input": {"pending": 7}},
        "r4": {"input": {"pending": "seven"}},
    }
    for run_id, manifest in told.items():
        storage.put_bytes(f"runs/{run_id}.json", json.dumps(manifest).encode())
    storage.put_bytes("runs/r5.attempts.json", b"not read")
    storage.put_bytes("runs/notes.txt", b"not read")
    storage.put_bytes("runs/r6.json", b"[1]")
    found = [tuple(run.model_dump().values()) for run in measure(storage, Prices()).runs]
    assert found == [
        ("r1", "unknown", "", "", 2, None, 0, 0, "", False),
        ("r2", "done", "monday", "friday", 0, None, 0, 0, "", False),
        ("r3", "error", "", "", 1, 7, 0, 0, "", False),
        ("r4", "unknown", "", "", 0, None, 0, 0, "", False),
    ]
    storage.put_bytes("runs/r7.json", b"{")
    with pytest.raises(StorageError, match=r"runs/r7\.json is damaged: "):
        measure(storage, Prices())


def test_missing_clips_are_counted_and_five_are_named(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(n) for n in range(5)] + [row(6, status="failed")], stored=False)
    (note,) = (n for n in measure(storage, Prices()).notes if "not stored" in n)
    assert note.startswith("5 files of ok rows are not stored as the row says: missing, or of an")
    assert "…" not in note
    storage = write(tmp_path, [row(n) for n in range(6)], stored=False)
    (note,) = (n for n in measure(storage, Prices()).notes if "not stored" in n)
    assert note.startswith("6 files of ok rows")
    assert note.count(".mp4") == 5
    assert ", …)" in note


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """One clip of no policy, without a control."""
    plain = row(0)
    plain["cache"] = plain["cache"] | {"policy": "none"}
    return measure(write(tmp_path_factory.mktemp("bare"), [plain]), Prices({"": 1}))


def test_notes_say_what_a_reader_must_know_and_nothing_else(
    tmp_path: Path, bare: Report, report: Report
) -> None:
    def kinds(found: Report) -> set[str]:
        return {note.split(" ", 1)[0] for note in found.notes}

    assert bare.notes == []
    assert kinds(report) == {"Quality"}
    (lost,) = measure(write(tmp_path / "lost", [row(0)], stored=False), Prices({"": 1})).notes
    assert lost.startswith(
        "1 file of ok rows is not stored as the row says: missing, or of another"
    )
    assert lost.endswith(".mp4). The command that made them makes them again with --verify.")
    dead = row(1, status="failed", wasted=1.0) | {"error_type": "WorkerDied"}
    nameless = row(0, worker="")
    notes = measure(write(tmp_path, [dead, nameless]), Prices()).notes
    assert notes[0].startswith(
        "No price is known for NVIDIA H100 80GB HBM3, so no money is shown: give --price"
    )
    assert notes[1].startswith("1 sample ended with the death of the process. What a dead")
    assert notes[2].startswith("Some rows were written by a version that did not record processes")
    assert len(notes) == 3
    listed = Prices(table=[line for line in read_table() if line.gpu != "H100"][:1])
    note = measure(write(tmp_path / "listed", [row(0)]), listed).notes[0]
    assert note == (
        f"The list prices of {listed.table[0].cloud} (on-demand) have none for NVIDIA H100 80GB "
        "HBM3, so no money is shown: give --price DOLLARS per GPU-hour."
    )


def test_a_text_stage_of_its_own_is_in_no_sum_and_said(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0)])
    for run_id, stage in (("a", "inline"), ("b", "separate")):
        manifest = {"config": {"stages": {"text": stage}}}
        assert not any("encoded texts" in note for note in measure(storage, Prices()).notes)
        storage.put_bytes(f"runs/{run_id}.json", json.dumps(manifest).encode())
    assert any("encoded texts" in note for note in measure(storage, Prices()).notes)


def test_the_quality_of_the_headline_is_over_all_pairs(tmp_path: Path) -> None:
    rows = [row(n, nfe=3 + n, up=50.0) for n in range(3)]
    rows += [row(n, control=True, psnr=p, up=60.0) for n, p in ((0, 20.0), (1, 40.0), (2, None))]
    head = measure(write(tmp_path, rows), Prices()).headline
    assert head.psnr_db is not None
    assert (head.psnr_db.value, head.psnr_worst, head.quality_pairs) == (30.0, 20.0, 2)


def test_points_hold_what_was_predicted_and_what_came(tmp_path: Path) -> None:
    rows = [row(0, up=50.0), row(0, control=True, psnr=33.0, up=60.0)]
    found = measure(write(tmp_path, rows), Prices())
    (errors,), (quality,) = found.errors, found.quality_by_nfe
    assert (errors.group, errors.x, errors.y) == ("planned", 0.1, 0.2)
    assert (quality.group, quality.x, quality.y) == ("planned", 4.0, 33.0)


def test_a_run_s_own_price_counts_where_none_is_given(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0, run="r1", wall=1800.0, up=1807.0)])
    manifest = {"config": {"gpu_price_per_hour": 9.0}}
    storage.put_bytes("runs/r1.json", json.dumps(manifest).encode())
    spent = measure(storage, Prices()).dollars
    assert spent is not None
    assert spent.clips == pytest.approx(4.5)


def test_clips_of_two_settings_are_the_first_thing_that_is_said(tmp_path: Path) -> None:
    rows = [row(0) | {"settings": "fast"}, row(1) | {"settings": "best"}]
    two = measure(write(tmp_path, rows), Prices())
    assert two.notes[0].startswith("The clips were made with 2 different settings. ")
    assert ["fast" in kind for kind in each_kind(two.settings)] == [False, True]
    assert sorted(each.settings for each in two.settings) == ["best", "fast"]
    assert [each.clips for each in two.settings] == [1, 1]


def test_clips_of_two_sizes_are_counted_apart(tmp_path: Path) -> None:
    rows = [row(n) | {"width": 16 if n else 32} for n in range(3)]
    two = measure(write(tmp_path, rows), Prices())
    kinds = [(each.clips, each.width, each.height, each.num_frames) for each in two.settings]
    height, frames = rows[0]["height"], rows[0]["num_frames"]
    assert kinds == [(2, 16, height, frames), (1, 32, height, frames)]
    assert f"16x{height}, {frames} frames" in each_kind(two.settings)[0]


OTHER_SETTINGS: dict[str, tuple[Any, str]] = {
    "num_inference_steps": (9, "9 steps"),
    "guidance_scale": (2.0, "guidance 2"),
    "guidance_scale_2": (3.0, "guidance 4 and 3"),
    "width": (48, "48x16"),
    "height": (48, "16x48"),
    "num_frames": (9, "9 frames"),
    "fps": (12, "12 fps"),
    "negative_prompt": ("fog", 'negative prompt "fog"'),
}


@pytest.mark.parametrize("column", ROW_SETTINGS)
def test_clips_that_differ_in_what_a_run_sets_are_counted_apart(
    tmp_path: Path, column: str
) -> None:
    value, said = OTHER_SETTINGS[column]
    report = measure(write(tmp_path, [row(0), row(1), row(2) | {column: value}]), Prices())
    assert [each.clips for each in report.settings] == [2, 1]
    assert said in each_kind(report.settings)[1]
    assert f"the column {column} of rows and index tells them apart" in report.notes[0]


def test_clips_of_a_run_s_own_seed_are_counted_apart(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0), row(1, run="r2"), row(2, run="r2")])
    for run, seed in (("r1", None), ("r2", 5)):
        manifest = {"config": {"sampling": {"seed": seed}}}
        storage.put_bytes(f"runs/{run}.json", json.dumps(manifest).encode())
    report = measure(storage, Prices())
    assert [(each.clips, each.seed) for each in report.settings] == [(2, 5), (1, None)]
    assert "seed 5, " in each_kind(report.settings)[0]
    assert "seed of row or prompt" in each_kind(report.settings)[1]
    assert "the column seed_u64 of rows and index tells them apart" in report.notes[0]


def test_many_negative_prompts_of_rows_are_no_settings(tmp_path: Path) -> None:
    rows = [row(n) | {"negative_prompt": f"fog {n}"} for n in range(13)]
    (kind,) = measure(write(tmp_path, rows), Prices()).settings
    assert (kind.clips, kind.negative_prompt) == (13, None)


def test_more_clips_are_projected_where_asked(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(n, wall=10.0, up=100.0) for n in range(3)])
    assert measure(storage, Prices()).projections == []
    (projection,) = measure(storage, Prices({"": 3600.0}), more_clips=6).projections
    assert projection.clips == 6


def test_more_clips_cost_what_clips_of_the_dataset_have_cost_with_everything(
    tmp_path: Path,
) -> None:
    rows = [row(n, wall=1.0, up=40.0) for n in range(6)]
    rows += [row(n, control=True, wall=3.0, up=40.0) for n in range(2)]
    report = measure(write(tmp_path, rows), Prices({"": 3600.0}), more_clips=1000)
    (projection,) = report.projections
    # A dollar a second, 40 s in all, of which 7 s are loading: 33 s made six clips.
    assert projection.gpu_s == pytest.approx(1000 * 33 / 6)
    assert projection.dollars == pytest.approx(1000 * 33 / 6)
    assert report.dollars is not None
    all_in = report.headline.dollars_per_clip_all_in
    assert all_in is not None
    loading = report.dollars.loading / report.totals.ok
    assert projection.dollars == pytest.approx(1000 * (all_in - loading))


def test_no_rows_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        measure(write(tmp_path, []), Prices())
    assert str(caught.value) == (
        f"{Storage(str(tmp_path)).uri}: no output rows in data/part-*.parquet; run a job first"
    )


def test_evaluations_are_counted_for_clips_and_not_for_controls(report: Report) -> None:
    assert {bar.nfe: bar.clips for bar in report.nfe} == {3: 1, 4: 1, 8: 1}
    assert report.generated_at.endswith("+00:00")
    assert "T" in report.generated_at
