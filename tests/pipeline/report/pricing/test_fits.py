"""Which GPUs hold a model: by the same figures that a run is refused by."""

from __future__ import annotations

import pytest

from pipeline.models.memory.cards import CARDS, cards_that_hold
from pipeline.report.pricing.cost_model import DEVICES, WAN_1_3B, WAN_14B, clip_cost, memory_bytes
from pipeline.report.pricing.fits import SAVERS, fit, markdown
from pipeline.report.pricing.offers import parse_kinds

BUDGETS = (1.0, 0.34)


def test_a_consumer_card_holds_the_small_model_and_is_told_how_little_is_left() -> None:
    found = fit(WAN_1_3B, "480p", "RTX 4090", BUDGETS)
    assert (found.flags, found.is_tight) == ("", True)
    assert not fit(WAN_1_3B, "480p", "RTX 5090", BUDGETS).is_tight
    cost = clip_cost(WAN_1_3B, "480p", "RTX 4090")
    assert found.seconds == pytest.approx(
        [cost.fixed_s + count * cost.evaluation_s for count in (50, 17)]
    )
    fits, _ = cards_that_hold(memory_bytes(WAN_1_3B, "480p", 1, "planned") / 1e9)
    assert "RTX 4090" in fits  # as the run itself says


def test_a_model_that_does_not_fit_is_told_what_makes_it_fit() -> None:
    for gpu in DEVICES:
        found = fit(WAN_14B, "720p", gpu, BUDGETS)
        whole = memory_bytes(WAN_14B, "720p", 1, "planned")
        assert (found.flags == "") == (whole <= DEVICES[gpu].memory_bytes)
        assert bool(found.seconds) == (found.flags == "")
        if found.flags:  # and nothing that costs less does
            order = list(SAVERS)
            for flags in order[: order.index(found.flags)]:
                needed = memory_bytes(WAN_14B, "720p", 1, "planned", SAVERS[flags])
                assert needed > DEVICES[gpu].memory_bytes
    assert fit(WAN_14B, "720p", "L40S", BUDGETS).flags


def test_a_card_that_nothing_helps_is_said_not_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.pricing.fits.memory_bytes", lambda *_: 1e15)
    assert fit(WAN_14B, "720p", "H200", BUDGETS).flags is None
    lines = markdown(parse_kinds("wan2.1-t2v-14b:720p"), BUDGETS)
    assert all(line.endswith("| does not fit |") for line in lines[2 : 2 + len(DEVICES)])


def test_every_device_has_a_line_and_its_memory_is_that_of_the_card() -> None:
    lines = markdown(parse_kinds("wan2.1-t2v-1.3b:480p"), BUDGETS)
    assert {line.split(" | ")[0].removeprefix("| ") for line in lines[2:-2]} == set(DEVICES)
    for gpu, device in DEVICES.items():
        assert device.memory_bytes / 1e9 in CARDS.values(), gpu
