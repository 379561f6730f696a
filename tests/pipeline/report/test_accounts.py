"""Device time and money of a prefix, against sums worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.schema import rejected_row, to_table
from pipeline.monitoring.totals import RunTotals
from pipeline.report.accounts import Accounts, account
from pipeline.report.document import PriceUsed
from pipeline.report.pricing.prices import Prices
from pipeline.report.rows import RowRoles, read_rows
from tests.pipeline.report.made import DEVICE, row, write

HOUR = 3600.0


def accounts(folder: Path, prices: Prices, *parts: list[dict[str, Any]]) -> Accounts:
    rows = read_rows(write(folder, *parts))
    return account(rows, RowRoles.of(rows), prices)


def dollars(found: Accounts) -> dict[str, float]:
    assert found.dollars is not None
    return found.dollars.model_dump()


def test_a_price_that_is_for_nothing_in_the_prefix_is_told(tmp_path: Path) -> None:
    given = {"": 1.0, "device:h1000": 2.0, "device:h100": 3.0, "run:r": 4.0, "label:zone=a": 5.0}
    rows = [row(0, labels="zone=b,rack=1")]
    assert accounts(tmp_path, Prices(given), rows).unmatched == [
        f"--price device:h1000=2 is for no device of this prefix; its devices are {DEVICE}.",
        "--price run:r=4 is for no run of this prefix; its runs are r1.",
        "--price label:zone=a=5 is for no label of this prefix; its labels are rack=1, zone=b.",
    ]


def test_each_second_has_the_price_of_its_device(tmp_path: Path) -> None:
    """One process on one H100 at 10 dollars an hour, one on two A100 at 2 each."""
    h100, a100 = DEVICE, "NVIDIA A100"
    rows = [
        row(0, wall=1800.0, wasted=360.0, worker="a", up=3607.0),
        row(0, wall=720.0, control=True, worker="a", up=3607.0),
        row(1, wall=900.0, wasted=90.0, group=2, worker="b", up=1807.0) | {"device_name": a100},
    ]
    found = accounts(tmp_path, Prices({"device:h100": 10.0, "device:a100": 2.0}), rows)
    assert found.device_s.model_dump() == pytest.approx(
        {
            "clips": 1800.0 + 2 * 900.0,
            "controls": 720.0,
            "failed_attempts": 360.0 + 2 * 90.0,
            "drafts": 0.0,
            "regenerated": 0.0,
            "loading": 7.0 + 2 * 7.0,
            # 3607 - 7 - 1800 - 360 - 720, and twice 1807 - 7 - 900 - 90
            "idle": 720.0 + 2 * 810.0,
            "total": 3607.0 + 2 * 1807.0,
        }
    )
    assert dollars(found) == pytest.approx(
        {
            "clips": 5.0 + 1.0,
            "controls": 2.0,
            "failed_attempts": 1.0 + 0.1,
            "drafts": 0.0,
            "regenerated": 0.0,
            "loading": (7 * 10 + 14 * 2) / HOUR,
            "idle": 2.0 + 0.9,
            "total": (3607 * 10 + 2 * 1807 * 2) / HOUR,
        }
    )
    assert found.row_dollars.tolist() == pytest.approx([6.0, 2.0, 1.1])
    assert found.unpriced == []
    assert sorted(found.used, key=lambda used: used.scope) == [
        PriceUsed(
            scope=a100,
            dollars_per_gpu_hour=2.0,
            source="--price device:a100=2",
            device_s=1980.0,
        ),
        PriceUsed(
            scope=h100,
            dollars_per_gpu_hour=10.0,
            source="--price device:h100=10",
            device_s=2880.0,
        ),
    ]


def test_a_clip_that_was_made_again_for_its_control_is_paid_with_it(tmp_path: Path) -> None:
    quality = {"psnr_db": 40.0, "ssim": 0.9, "lpips": None, "clip_wall_s": 20.0}
    late = row(0, wall=60.0, group=2, control=True, up=100.0) | {"quality": quality}
    found = accounts(tmp_path, Prices({"": HOUR}), [late])  # a dollar a second
    spent = found.device_s
    assert (spent.controls, spent.loading, spent.idle) == (160.0, 14.0, 26.0)
    assert dollars(found)["controls"] == pytest.approx(160.0)
    assert found.row_dollars.tolist() == pytest.approx([160.0])
    totals = RunTotals()
    totals.add(to_table([late]))
    assert totals.spent == {
        "clips": 0.0,
        "controls": 160.0,
        "failed_attempts": 0.0,
        "drafts": 0.0,
    }


def test_rows_that_do_not_count_and_failed_ones_cost_as_well(tmp_path: Path) -> None:
    first = [row(0, wall=100.0, up=200.0), row(1, status="failed", wasted=30.0, up=200.0)]
    again = [row(0, wall=50.0, wasted=4.0, worker="w2", up=70.0)]
    found = accounts(tmp_path, Prices({"": HOUR}), first, again)  # a dollar a second
    assert dollars(found) == pytest.approx(
        {
            "clips": 100.0,
            "controls": 0.0,
            "failed_attempts": 34.0,
            "drafts": 0.0,
            "regenerated": 50.0,
            "loading": 14.0,
            "idle": (200 - 7 - 130) + (70 - 7 - 54),
            "total": 270.0,
        }
    )
    assert found.row_dollars.tolist() == pytest.approx([100.0, 30.0, 54.0])
    assert found.device_s.model_dump() == pytest.approx(dollars(found))


def test_a_device_without_a_price_hides_money_and_is_named(tmp_path: Path) -> None:
    rows = [row(0, wall=5.0), row(1, wall=6.0, worker="w2") | {"device_name": "L4"}]
    rows += [row(2, wall=7.0, worker="w3") | {"device_name": ""}]
    found = accounts(tmp_path, Prices({"device:h100": 3.6}), rows)
    assert found.dollars is None
    assert found.unpriced == ["L4", "unknown device"]
    assert [used.device_s for used in found.used] == [5.0]
    assert found.row_dollars[0] == pytest.approx(0.005)
    assert np.isnan(found.row_dollars[1:]).all()
    assert found.device_s.clips == 18.0


def test_a_rejected_row_needs_no_price(tmp_path: Path) -> None:
    bad = rejected_row("0" * 20, "c", "f:2", "demo", "r1", "bad")
    found = accounts(tmp_path, Prices({"device:h100": 3.6}), [row(0, wall=1000.0, up=1007.0), bad])
    assert found.unpriced == []
    assert dollars(found)["total"] == pytest.approx(1.007)
    assert dollars(found)["failed_attempts"] == 0.0


def test_one_price_of_several_devices_is_one_line(tmp_path: Path) -> None:
    rows = [row(0, wall=5.0), row(1, wall=6.0, worker="w2") | {"device_name": "L4"}]
    (used,) = accounts(tmp_path, Prices({"": 2.0}), rows).used
    assert (used.dollars_per_gpu_hour, used.device_s) == (2.0, 11.0)
    assert used.scope in (DEVICE, "L4")


def test_a_process_that_was_up_for_less_than_its_calls_was_never_idle(tmp_path: Path) -> None:
    found = accounts(tmp_path, Prices(), [row(0, wall=50.0, up=20.0)])
    assert (found.device_s.idle, found.device_s.loading) == (0.0, 7.0)
    assert found.dollars is None


def test_rows_without_a_process_count_with_their_calls(tmp_path: Path) -> None:
    rows = [row(0, wall=5.0, worker=""), row(1, wall=8.0, wasted=1.0, worker="w", up=30.0)]
    found = accounts(tmp_path, Prices({"": HOUR}), rows)
    assert found.device_s.model_dump() == pytest.approx(dollars(found))
    assert dollars(found) == pytest.approx(
        {
            "clips": 13.0,
            "controls": 0.0,
            "failed_attempts": 1.0,
            "drafts": 0.0,
            "regenerated": 0.0,
            "loading": 7.0,
            "idle": 14.0,
            "total": 35.0,
        }
    )
    old = accounts(tmp_path / "old", Prices({"": HOUR}), [row(0, wall=5.0, worker="")])
    assert old.device_s.total == 5.0


def test_no_row_costs_nothing(tmp_path: Path) -> None:
    found = accounts(tmp_path, Prices({"": 1.0}))
    assert (found.device_s.total, found.dollars, found.used, found.unpriced) == (0.0, None, [], [])
    assert found.row_dollars.shape == (0,)


def test_drafts_are_paid_for_and_are_no_idle_time(tmp_path: Path) -> None:
    drafts = [
        {"sample_id": "a", "seed_u64": 1, "value": 0.5, "nfe": 8, "gpu_s": seconds}
        for seconds in (6.0, 4.0)
    ]
    plain = accounts(tmp_path / "plain", Prices({"": HOUR}), [row(0, wall=20.0, up=100.0)])
    chosen = row(0, wall=20.0, up=100.0) | {"drafts": drafts}
    found = accounts(tmp_path / "chosen", Prices({"": HOUR}), [chosen])
    assert found.device_s.drafts == pytest.approx(10.0)
    assert dollars(found)["drafts"] == pytest.approx(10.0)
    assert found.device_s.idle == pytest.approx(plain.device_s.idle - 10.0)
    assert found.device_s.total == pytest.approx(plain.device_s.total)
    assert found.device_s.clips == plain.device_s.clips
