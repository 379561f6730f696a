"""Which price a device has, and what is said of it."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.report.pricing.prices import (
    ListPrice,
    Price,
    Prices,
    load_table,
    parse_prices,
    read_table,
)

DAY = datetime.date(2026, 11, 9)


def listed(gpu: str, on_demand: float | None, spot: float | None) -> ListPrice:
    return ListPrice(
        cloud="c", product="box", gpu=gpu, on_demand=on_demand, spot=spot, date=DAY, source="https"
    )


ALL = Prices(
    {"": 1.5, "device:h100": 2.5, "label:zone=b": 3.5, "label:zone=a": 4.5, "run:r1": 5.5},
    {"r1": 6.5, "r9": 7.5},
    [listed("H100", 8.5, 9.5)],
)


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (("r1", "zone=a,zone=b", "H100 SXM"), Price(5.5, "--price run:r1=5.5")),
        (("r2", "market=spot,zone=a", "H100 SXM"), Price(4.5, "--price label:zone=a=4.5")),
        (("r2", "zone=b,zone=a", "A100"), Price(3.5, "--price label:zone=b=3.5")),
        (("r2", "", "NVIDIA H100 SXM"), Price(2.5, "--price device:h100=2.5")),
        (("r9", "zone=c", "A100"), Price(1.5, "--price 1.5")),
    ],
)
def test_of_several_given_prices_the_nearest_counts(
    place: tuple[str, str, str], found: Price
) -> None:
    assert ALL.find(*place) == found


def test_a_run_s_own_price_goes_before_the_table_and_the_table_comes_last() -> None:
    prices = Prices({"device:a100": 0.0}, {"r9": 7.5}, ALL.table)
    assert prices.find("r9", "", "H100") == Price(7.5, "gpu_price_per_hour of the run")
    assert prices.find("r2", "", "H100") == Price(8.5, "c box, on-demand, 2026-11-09: https")
    assert prices.find("r9", "", "NVIDIA A100") == Price(0.0, "--price device:a100=0")
    assert prices.find("r2", "", "L4") is None
    assert Prices().find("r1", "a=b", "H100") is None


def test_a_listed_price_is_of_its_market_and_of_all_words_of_its_gpu() -> None:
    table = [
        listed("H100 PCIe", None, 1.0),
        listed("H100 PCIe", 2.0, 3.0),
        listed("H100", 4.0, None),
        listed("h100", 5.0, 6.0),
    ]
    prices = {market: Prices(table=table, market=market) for market in ("on-demand", "spot")}

    def dollars(market: str, device: str) -> float | None:
        found = prices[market].find("r", "", device)
        return found and found.dollars

    assert dollars("on-demand", "NVIDIA H100 PCIE") == 2.0  # the first line has no such offer
    assert dollars("spot", "NVIDIA H100 PCIE") == 1.0
    assert dollars("on-demand", "NVIDIA H100 80GB HBM3") == 4.0  # every word must be there
    assert dollars("spot", "NVIDIA H100 80GB HBM3") == 6.0
    assert dollars("spot", "PCIe") is None


def test_prices_are_read_as_they_are_written() -> None:
    texts = ["0", "run:a=1=2.5", "label:k=v=999999.5", "device:RTX 4090=0.25", "run:a:b=3"]
    assert parse_prices(texts) == {
        "": 0.0,
        "run:a=1": 2.5,
        "label:k=v": 999_999.5,
        "device:RTX 4090": 0.25,
        "run:a:b": 3.0,
    }
    assert parse_prices([]) == {}


@pytest.mark.parametrize("text", ["1e6", "run:r=1000000", "=", "run=2", "device:=2", "inf", "2,5"])
def test_what_is_no_price_is_said_with_the_forms(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_prices(["1", text])
    assert str(caught.value) == (
        f"--price {text}: should be DOLLARS, run:ID=DOLLARS, label:KEY=VALUE=DOLLARS or "
        "device:TEXT=DOLLARS, e.g. --price 2.49"
    )


LINES = """
- {cloud: b, product: x, gpu: G, on_demand: 1.5, spot: null, date: 2026-01-02, source: s}
- {cloud: a, product: y, gpu: G, on_demand: null, spot: 2.5, date: 2026-01-02, source: s}
- {cloud: b, product: z, gpu: G, on_demand: 3.5, spot: 0.5, date: 2026-01-02, source: s}
"""


def test_a_table_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(LINES)
    assert [line.product for line in load_table("B", str(path))] == ["x", "z"]
    assert [line.cloud for line in read_table(str(path))] == ["b", "a", "b"]
    assert load_table("", str(path)) == []
    with pytest.raises(UserError) as caught:
        load_table("c", str(path))
    assert str(caught.value) == "--cloud c: the price table knows a, b"
    assert {line.cloud for line in read_table()} > {"aws", "gcp"}  # the shipped one


@pytest.mark.parametrize("text", ["- {cloud: a}", "- {cloud: [", "prices: 3"])
def test_a_table_in_another_form_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_table(str(path))
    said = str(caught.value)
    assert said.startswith(f"{path}: not a price table like prices.yaml: ")
    assert "\n" not in said
    assert "None" not in said
