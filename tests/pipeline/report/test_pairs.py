"""Which clips are compared with which controls, and what comes out, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.document import Speedup
from pipeline.report.pairs import (
    ComparedPairs,
    bands,
    comparable,
    control_fraction,
    few,
    measure_quality,
)
from pipeline.report.rows import RowRoles, Rows, read_rows
from pipeline.report.speedup import measure_speedup
from tests.pipeline.report.made import row, write


def of(folder: Path, rows: list[dict[str, Any]]) -> tuple[Rows, ComparedPairs]:
    """The rows of a prefix after a first call of its process, and its pairs."""
    warm = row(99, up=1.0, wall=0.5)
    found = read_rows(write(folder, [warm, *rows]))
    return found, ComparedPairs.find(found, RowRoles.of(found))


def pair(number: int, *, wall: float = 2.0, control_wall: float = 6.0, **of_control: Any) -> Any:
    return [
        row(number, wall=wall, up=50.0),
        row(number, wall=control_wall, up=60.0, control=True) | of_control,
    ]


def left_out(folder: Path, rows: list[dict[str, Any]]) -> tuple[list[bool], dict[str, int]]:
    keep, reasons = comparable(*of(folder, rows))
    return keep.tolist(), reasons


def test_pairs_are_found_whatever_their_order(tmp_path: Path) -> None:
    (a, a_control), (b, b_control) = pair(0), pair(1)
    rows, pairs = of(tmp_path, [b_control, row(7, control=True), a, b, a_control])
    ids = rows.table["sample_id"].to_pylist()
    twins = rows.table["control_of"].to_pylist()
    assert [twins[at] for at in pairs.controls] == [ids[at] for at in pairs.clips]
    assert [ids[at] for at in pairs.clips] == [b["sample_id"], a["sample_id"]]
    assert pairs.lone == 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"run_id": "r2"}, "of two runs"),
        ({"device_name": "A100"}, "on two kinds of devices"),
        ({"group_size": 2}, "in groups of two sizes"),
        ({"batch_rows": 3}, "in calls of two batch sizes"),
        ({"wall_s": 0.0}, "without a measured time"),
        ({"worker": {"id": "w9", "up_s": 60.0}}, "in the first call of a process (warm-up)"),
    ],
)
def test_a_pair_that_differs_in_what_takes_time_is_left_out(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    rows = [*pair(0), *pair(1, **changed), *pair(2)]
    assert left_out(tmp_path, rows) == ([True, False, True], {reason: 1})


def test_a_pair_is_left_out_for_its_first_reason_only(tmp_path: Path) -> None:
    both = {"run_id": "r2", "group_size": 2}
    rows = [*pair(0, **both), *pair(1, **both), *pair(2, group_size=2), row(5, control=True)]
    assert left_out(tmp_path, rows) == (
        [False, False, False],
        {"of two runs": 2, "in groups of two sizes": 1, "without their clip": 1},
    )


def test_the_clip_is_looked_at_as_its_control_is(tmp_path: Path) -> None:
    clip, control = pair(0)
    assert left_out(tmp_path, [clip | {"wall_s": 0.0}, control])[0] == [False]
    young = clip | {"worker": {"id": "w9", "up_s": 50.0}}
    assert left_out(tmp_path / "young", [young, control])[0] == [False]


def test_the_first_call_ends_before_the_next_one_can(tmp_path: Path) -> None:
    """Three rows of a call of 4 s that ended at 10 s, and a row of the next one, of 5 s."""
    rows = []
    for number, (up, wall, batch) in enumerate([(10, 2, 2), (10.5, 2, 2), (15.6, 5, 1)]):
        clip, control = pair(number)
        worker = {"id": "w5", "up_s": float(up)}
        rows += [clip | {"worker": worker, "wall_s": float(wall), "batch_rows": batch}]
        rows += [control | {"batch_rows": batch}]
    keep, reasons = left_out(tmp_path, rows)
    assert keep == [False, False, True]
    assert reasons == {"in the first call of a process (warm-up)": 2}


def test_rows_without_a_process_are_in_no_first_call(tmp_path: Path) -> None:
    nameless = {"id": "", "up_s": 0.0}
    clip, control = pair(0)
    assert left_out(tmp_path, [clip | {"worker": nameless}, control | {"worker": nameless}]) == (
        [True],
        {},
    )


def test_the_speed_up_is_a_ratio_of_sums(tmp_path: Path) -> None:
    rows = [*pair(0, wall=0.25, control_wall=0.5), *pair(1, wall=0.75, control_wall=2.0)]
    rows += pair(2, wall=9.0, control_wall=900.0, run_id="r2")
    found = measure_speedup(*of(tmp_path, rows))
    assert (found.pairs, found.left_out) == (2, {"of two runs": 1})
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(2.5)
    assert (found.ratio.low, found.ratio.high) == pytest.approx((2.0, 8 / 3))
    assert found.note == "only 2 pairs: the interval is too narrow to be trusted"


def in_calls(pairs: list[Any], *sizes: int) -> list[dict[str, Any]]:
    """Rows of pairs whose controls share engine calls of these sizes; each clip has its own."""
    found, left = [], iter(pairs)
    for call, size in enumerate(sizes):
        for _ in range(size):
            clip, control = next(left)
            found += [clip | {"batch_rows": 3}]
            found += [control | {"batch_rows": 3, "wall_s": 6.0 + 1.2 * call / 7}]
    return found


def test_pairs_that_share_a_call_are_one_measurement(tmp_path: Path) -> None:
    pairs = [pair(n, wall=2.0 + 0.7 * n / 3) for n in range(5)]
    one = measure_speedup(*of(tmp_path / "one", in_calls(pairs[:3], 3)))
    assert (one.pairs, one.calls) == (3, 1)
    assert one.ratio is not None
    assert one.ratio.low == one.ratio.high  # printed without an interval
    assert one.note == "one engine call made 3 pairs: one measurement, so no interval"
    two = measure_speedup(*of(tmp_path / "two", in_calls(pairs, 3, 2)))
    assert (two.pairs, two.calls) == (5, 2)
    assert two.note.startswith("only 2 engine calls made 5 pairs: the interval, over calls,")
    walls = [2.0 + 0.7 * n / 3 for n in range(5)]
    ends = [3 * 6.0 / sum(walls[:3]), 2 * (6.0 + 1.2 / 7) / sum(walls[3:])]
    assert two.ratio is not None
    assert [two.ratio.low, two.ratio.high] == pytest.approx(sorted(ends))
    own = measure_speedup(*of(tmp_path / "own", [one for each in pairs for one in each]))
    assert (own.pairs, own.calls) == (5, 5)


def test_a_clip_that_was_made_again_has_the_time_of_its_control(tmp_path: Path) -> None:
    """Its first time is that of another run, on another device."""
    clip, control = pair(0, wall=9.0, control_wall=6.0, run_id="r2", device_name="A100")
    quality = {"psnr_db": 40.0, "ssim": 0.9, "lpips": None, "clip_wall_s": 2.0}
    rows, pairs = of(tmp_path, [clip, control | {"quality": quality}])
    assert comparable(rows, pairs)[0].tolist() == [True]
    found = measure_speedup(rows, pairs)
    assert (found.pairs, found.left_out) == (1, {})
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(3.0)
    assert [each.pairs for each in measure_quality(rows, pairs)] == [1]


def test_without_a_pair_it_says_what_to_do(tmp_path: Path) -> None:
    assert measure_speedup(*of(tmp_path, [row(0)])) == Speedup(
        pairs=0,
        left_out={},
        ratio=None,
        note="no controls: run with --control-fraction 1 to measure it",
    )
    assert measure_speedup(*of(tmp_path / "lone", [row(0, control=True)])) == Speedup(
        pairs=0,
        left_out={"without their clip": 1},
        ratio=None,
        note="no pair can be compared: see what was left out",
    )


def test_controls_that_are_still_to_come_are_not_asked_for(tmp_path: Path) -> None:
    found = measure_speedup(*of(tmp_path, [row(0)]), controls_to_come=True)
    assert found.controls_to_come
    assert "--control-fraction" not in found.note
    one = measure_speedup(*of(tmp_path / "one", pair(0)), controls_to_come=True)
    assert not one.controls_to_come


def test_quality_is_told_by_policy_and_evaluations(tmp_path: Path) -> None:
    def compared(
        number: int, nfe: int, psnr: float, ssim: float | None, lpips: float | None
    ) -> Any:
        quality = {"psnr_db": psnr, "ssim": ssim, "lpips": lpips}
        return [
            row(number, nfe=nfe, up=50.0),
            row(number, control=True, up=60.0) | {"quality": quality},
        ]

    rows = [*compared(0, 4, 30.0, 0.8, 0.1), *compared(1, 4, 40.0, 0.9, 0.3)]
    rows += [*compared(2, 4, 20.0, 0.7, 0.2), *compared(3, 6, 50.0, None, None)]
    rows += [row(4, nfe=4, up=50.0), row(4, control=True, up=60.0)]  # not compared
    four, six = measure_quality(*of(tmp_path, rows))
    assert (four.policy, four.nfe, four.steps, four.pairs) == ("planned", 4, 10, 3)
    assert four.psnr_db.value == pytest.approx(30.0)
    assert (four.psnr_db.low, four.psnr_db.high) == pytest.approx((20.0, 40.0))
    assert four.psnr_p10 == pytest.approx(22.0)  # a fifth of the way from 20 to 30
    assert four.psnr_worst == 20.0
    assert four.ssim is not None
    assert four.ssim.value == pytest.approx(0.8)
    assert four.lpips is not None
    assert four.lpips.value == pytest.approx(0.2)
    assert four.note == "only 3 pairs: the interval is too narrow to be trusted"
    assert (six.nfe, six.pairs, six.psnr_worst, six.ssim, six.lpips) == (6, 1, 50.0, None, None)
    assert six.note.startswith("only 1 pair: ")


def test_clips_that_a_rule_decided_one_by_one_are_compared_in_bands(tmp_path: Path) -> None:
    rows = []
    for number in range(20):  # 10 with 2 or 3 evaluations, 10 with 6 to 8
        nfe = 2 + number % 2 if number < 10 else 6 + number % 3
        clip = row(number, nfe=nfe, up=50.0)
        clip["cache"]["policy"] = "paper"
        rows += [clip, row(number, control=True, up=60.0, psnr=10.0 * nfe)]
    quick, slow = measure_quality(*of(tmp_path / "rule", rows))
    assert (quick.nfe, quick.nfe_most, quick.nfe_mean, quick.pairs) == (2, 3, 2.5, 10)
    assert (slow.nfe, slow.nfe_most, slow.pairs) == (6, 8, 10)
    assert quick.psnr_db.value == pytest.approx(25.0)
    assert quick.note == slow.note == ""
    for each in rows:
        each["cache"]["policy"] = "planned"
    apart = measure_quality(*of(tmp_path / "plan", rows))
    assert [(each.nfe, each.nfe_most) for each in apart] == [(n, n) for n in (2, 3, 6, 7, 8)]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=120))
def test_bands_hold_neighbours_and_enough_pairs(nfe: list[int]) -> None:
    values = np.array(nfe, np.float64)
    found = bands(values)
    begins = np.unique(found)
    assert len(begins) <= 4
    assert (found <= values).all()
    for begin, end in zip(begins, [*begins[1:], np.inf], strict=True):
        mine = values[found == begin]
        assert mine.min() == begin
        assert mine.max() < end
        assert len(mine) >= min(8, len(nfe))


@pytest.mark.parametrize(
    ("clips", "fraction"), [(0, 1.0), (5, 1.0), (8, 1.0), (24, 0.34), (100, 0.08), (1000, 0.05)]
)
def test_the_fraction_of_controls_that_is_advised_gives_enough_pairs(
    clips: int, fraction: float
) -> None:
    assert control_fraction(clips) == pytest.approx(fraction)
    assert few(round(clips * fraction)) == "" or clips < 8


def test_eight_pairs_are_enough() -> None:
    assert few(7).startswith("only 7 pairs: ")
    assert few(8) == ""


def test_nothing_to_compare_is_nothing(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, []))
    pairs = ComparedPairs.find(rows, RowRoles.of(rows))
    assert (len(pairs.clips), len(pairs.controls), pairs.lone) == (0, 0, 0)
    assert measure_quality(rows, pairs) == []
    assert comparable(rows, pairs)[0].dtype == np.bool_


def test_quantised_clips_are_told_apart(tmp_path: Path) -> None:
    def compared(number: int, psnr: float, quantisation: str) -> Any:
        quality = {"psnr_db": psnr, "ssim": None, "lpips": None}
        return [
            row(number, nfe=4, up=50.0) | {"quantisation": quantisation},
            row(number, control=True, up=60.0) | {"quality": quality, "quantisation": ""},
        ]

    rows = [*compared(0, 30.0, ""), *compared(1, 20.0, "int8"), *compared(2, 22.0, "int8")]
    found = measure_quality(*of(tmp_path, rows))
    told = {each.policy: (each.pairs, each.psnr_db.value) for each in found}
    (plain, int8) = sorted(told)
    assert told == {plain: (1, 30.0), f"{plain}, int8": (2, 21.0)}
    assert int8 == f"{plain}, int8"
    notes = {each.policy: "controls are unquantised" in each.note for each in found}
    assert notes == {plain: False, int8: True}


def test_a_speed_up_below_the_ratio_of_steps_has_its_reason_in_shares_of_the_time(
    tmp_path: Path,
) -> None:
    clip, control = row(0, up=50.0, wall=4.0), row(0, control=True, up=60.0, wall=6.4)
    clip["times"] = {"text_s": 0.4, "denoise_s": 2.8, "decode_s": 0.8, "wasted_s": 0.0}
    control["times"] = {"text_s": 0.4, "denoise_s": 5.2, "decode_s": 0.8, "wasted_s": 0.0}
    found = measure_speedup(*of(tmp_path / "slow", [clip, control]))
    # 6 evaluations took 2.4 s, so the 4 of the clip took 1.6 s of its 2.8 s of steps.
    assert found.steps_ratio == 2.5
    assert found.not_cached == pytest.approx(
        {"text encoding": 0.1, "decoding": 0.2, "sampler steps beside the network": 0.3}
    )
    assert found.why == (
        "the evaluations that were saved would make it 2.5 times, but caching does not shorten the "
        "rest of a clip's time: text encoding 10%, decoding 20%, sampler steps beside the network "
        "30%"
    )
    control["wall_s"] = 10.0
    assert measure_speedup(*of(tmp_path / "fast", [clip, control])).why == ""
