"""Costs before any clip was made: list prices times estimated seconds, worked out again by hand."""

from __future__ import annotations

import datetime

import pytest

from pipeline.report.pricing import offers as offers_module
from pipeline.report.pricing.cost_model import said_of_peaks
from pipeline.report.pricing.offers import (
    device_of,
    evaluations,
    markdown,
    offers,
    parse_kinds,
)
from pipeline.report.pricing.prices import ListPrice, read_table

BUDGETS = (1.0, 0.34)


def line(gpu: str, on_demand: float | None = 2.0, spot: float | None = None) -> ListPrice:
    return ListPrice(
        cloud="c",
        product="p",
        gpu=gpu,
        on_demand=on_demand,
        spot=spot,
        date=datetime.date(2026, 1, 2),
        source="s",
    )


def test_dollars_are_operations_over_the_peak_times_the_price() -> None:
    ((offer,),) = [
        offers(parse_kinds("wan2.1-t2v-1.3b:480p"), BUDGETS, [line("H100")], "on-demand")
    ]
    tokens = 21 * (480 // 16) * (832 // 16)
    flops = 2 * (2 * 1.42e9 * tokens + 4 * 30 * tokens**2 * 1536)  # guidance: two branches
    for budget, dollars in zip(BUDGETS, offer.costs[0].dollars, strict=True):
        seconds = 5.0 + round(50 * budget) * flops / (0.4 * 989e12)
        assert dollars == pytest.approx(seconds / 3600 * 2.0 * 1000)


def test_a_model_that_needs_more_gpus_pays_for_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits = offers_module.smallest_group
    monkeypatch.setattr(
        offers_module,
        "smallest_group",
        lambda network, size, gpu: 2 if gpu == "H100" else fits(network, size, gpu),
    )
    kinds = parse_kinds("wan2.1-t2v-14b:720p")
    (large,) = offers(kinds, BUDGETS, [line("H200")], "on-demand")
    (split,) = offers(kinds, BUDGETS, [line("H100 80GB HBM3")], "on-demand")
    assert (large.costs[0].ranks, split.costs[0].ranks) == (1, 2)
    # The same chip: 5 % is lost between the ranks, and both wait for text and decoding.
    for alone, together in zip(large.costs[0].dollars, split.costs[0].dollars, strict=True):
        assert alone / 0.95 < together < alone / 0.95 * 1.05
    (none,) = offers(kinds, BUDGETS, [line("L40S")], "on-demand")
    assert none.costs[0].dollars == ()
    assert markdown([none], kinds, BUDGETS)[2].endswith("| – |")


def test_offers_are_of_the_market_and_of_gpus_that_are_known_and_the_cheapest_comes_first() -> None:
    kinds = parse_kinds("wan2.1-t2v-1.3b:480p")
    table = [line("H100", 3.0, 1.5), line("TPU v7"), line("H100 PCIe"), line("A100", None, 0.9)]
    found = offers(kinds, BUDGETS, table, "on-demand")
    assert [offer.line.gpu for offer in found] == ["H100 PCIe", "H100"]
    assert {offer.line.gpu for offer in offers(kinds, BUDGETS, table, "spot")} == {"H100", "A100"}


@pytest.mark.parametrize(
    ("product", "device"),
    [
        ("H100 80GB HBM3", "H100"),
        ("H100 PCIe", "H100 PCIe"),
        ("H100 NVL", "H100 NVL"),
        ("A100 40GB", "A100 40GB"),
        ("A100 SXM", "A100"),
        ("H200", "H200"),
        ("RTX 4090", "RTX 4090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000"),
        ("TPU v7", None),
    ],
)
def test_a_product_is_the_gpu_that_it_names(product: str, device: str | None) -> None:
    assert device_of(product) == device


def test_every_shipped_price_is_of_a_gpu_that_is_known() -> None:
    assert all(device_of(each.gpu) for each in read_table())


def test_budgets_are_those_of_the_shipped_qualities() -> None:
    assert [evaluations(budget) for budget in (1, 0.5, 0.34, 0.26)] == [50, 25, 17, 13]


def test_the_table_says_which_peaks_nothing_else_confirms() -> None:
    assert said_of_peaks(["H100", "RTX 5090"]).endswith("compared with a second table")
    assert said_of_peaks(["RTX A6000", "H100", "RTX A6000"]).endswith("except for RTX A6000")
    kinds = parse_kinds("wan2.1-t2v-1.3b:480p")
    found = offers(kinds, BUDGETS, [line("RTX A6000"), line("H100")], "on-demand")
    assert "peaks are dense bfloat16 figures of data sheets" in markdown(found, kinds, BUDGETS)[-1]
    assert "except for RTX A6000; device time alone" in markdown(found, kinds, BUDGETS)[-1]
