"""The tables over all models say who leads, when nothing is seen, and what the prior costs."""

from __future__ import annotations

from typing import Any

from jobs.benchmarks.rivals.cells import Cell, cells_of
from jobs.benchmarks.rivals.summary import everything, invisible, leads, priors, ratios, tally

SAMPLER = "FlowMatchEulerDiscreteScheduler"


def line(arm: str, wanted: int, psnr: list[float], **others: Any) -> dict[str, Any]:
    key = {"sampler": SAMPLER, "arm": arm, "wanted": wanted, "batch": 0, "setting": ""}
    jod = [9.95 if value >= 50 else 9.0 for value in psnr]
    return key | {"nfe": [float(wanted)] * len(psnr), "psnr": psnr, "jod": jod} | others


def cell(*lines: dict[str, Any]) -> Cell:
    result = {
        "model": "demo",
        "label": "second",
        "points": [25, 21, 13],
        "measures": ["jod", "psnr"],
        "samplers": {SAMPLER: list(lines)},
    }
    (made,) = cells_of({"conditions": {}, "result": result})
    return made


MEASURED = cell(
    line("planned", 25, [70.0, 60.0]),
    line("sencache-paper", 25, [52.0, 48.0]),
    line("fewer-steps", 25, [45.0, 41.0]),
    line("planned-prior", 25, [69.0, 58.0]),
    line("planned-prior", 21, [57.0, 55.0]),
    line("planned", 21, [56.0, 54.0]),
    line("sencache-paper", 21, [49.0, 47.0]),
    line("fewer-steps", 21, [58.0, 55.0]),
    line("planned", 13, [50.0, 46.0]),
    line("sencache-paper", 13, [60.0, 60.0], nfe=[20.0, 20.0]),  # it cannot go as low
    line("fewer-steps", 13, [31.0, 33.0]),
)


OWN_LINES = (
    line("planned", 25, [70.0, 60.0]),
    line("planned-own", 25, [72.0, 60.0]),
    line("planned-prior", 25, [69.0, 58.0]),
    line("sencache-paper", 25, [52.0, 48.0]),
)


def row_of(table: str, start: str = "| second | euler") -> list[str]:
    (row,) = [each for each in table.splitlines() if each.startswith(start)]
    return [part.strip() for part in row.strip("|").split("|")]


def test_plans_are_compared_with_the_best_arm_that_spends_as_little() -> None:
    found = row_of(leads([MEASURED]))
    assert found[2] == "2"
    assert found[3] == "+15.0 ± 3.0 (sencache-paper)"  # plans from the prior are no other arm
    assert found[4] == "-1.5 ± 0.5 (fewer-steps)"
    assert found[5] == "+16.0 ± 3.0 (fewer-steps)"  # the paper's rule needed 20
    assert tally([MEASURED]).startswith("Of 3 comparisons plans lead 2, 0 are ties, and 1 another")
    assert row_of(leads([cell(*OWN_LINES)]))[3] == "+16.0 ± 4.0 (sencache-paper)"


def test_invisible_at_says_none_where_an_arm_is_seen_everywhere() -> None:
    table = invisible([MEASURED])
    heads = [part.strip() for part in table.splitlines()[0].strip("|").split("|")]
    found = dict(zip(heads, row_of(table), strict=True))
    assert found["planned"] == "21 / 21"
    assert found["fewer-steps"] == "none / none"


def test_the_ratio_takes_measured_evaluations_only() -> None:
    found = row_of(ratios([MEASURED]))
    assert found[2] == "50.0 dB at 25: 21 (1.2 times fewer)"  # 13 has 48.0
    assert found[3] == "48.0 dB at 21: 13 (1.6 times fewer)"
    assert found[4] == "–"  # 17 was not measured
    beaten = cell(line("planned", 25, [40.0]), line("sencache-paper", 25, [50.0]))
    assert row_of(ratios([beaten]))[2] == "50.0 dB at 25: none"


def test_plans_from_the_prior_stand_beside_own_plans_and_fewer_steps() -> None:
    found = row_of(priors([MEASURED]))
    assert found[2] == "63.5 (–; -1.5 ± 0.5; +20.5 ± 3.5)"
    assert found[4] == "–"
    own = cell(*OWN_LINES)
    assert row_of(priors([own]))[2] == "63.5 (-2.5 ± 0.5; -1.5 ± 0.5; –)"
    without = cell(line("planned", 25, [40.0]))
    assert priors([without]) == "Not measured yet."


def test_one_table_has_every_point_and_marks_the_best_that_reaches_it() -> None:
    table = everything([MEASURED])
    first, second, third = (
        row_of(table, f"| second | euler | {point} |") for point in (25, 21, 13)
    )
    assert first[3] == "**65.0** ± 5.0 / 60.0<br>9.95 / 9.95"
    assert second[3].startswith("55.0")
    assert second[6].startswith("**56.5**")
    assert third[3].startswith("**48.0**")
    assert third[5] == "60.0 ± 0.0 / 60.0<br>9.95 / 9.95<br>at 20.0"
