"""Which columns of the input are kept as values, and what is said of the others."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.input_columns import MOST_VALUES, InputColumns

cells = st.one_of(st.integers(0, 15), st.sampled_from("abc"), st.booleans())
rows = st.lists(st.dictionaries(st.sampled_from("xyz"), cells), max_size=60)


@given(rows, st.integers(1, 7))
def test_every_cell_of_a_column_of_few_values_comes_back(
    made: list[dict[str, Any]], size: int
) -> None:
    columns = InputColumns()
    names = []
    for start in range(0, len(made), size):
        names += columns.add(map(json.dumps, made[start : start + size]))
    assert [json.loads(each or "[]") for each in names] == [[*row] for row in made]
    texts = [
        {name: cell if isinstance(cell, str) else json.dumps(cell) for name, cell in row.items()}
        for row in made
    ]
    values = {name: {row[name] for row in texts if name in row} for name in "xyz"}
    few = {name for name, found in values.items() if 0 < len(found) <= MOST_VALUES}
    assert columns.columns().keys() == few
    assert columns.left_out.keys() == {name for name in "xyz" if values[name]} - few
    for name, (codes, named) in columns.columns().items():
        assert [named[code] for code in codes] == [row.get(name, "") for row in texts]


def test_what_is_no_category_is_left_out_with_the_reason() -> None:
    columns = InputColumns()
    row = {"text": "x" * 61, "list": [1], "object": {"a": 1}, "kind": "x" * 60}
    columns.add([json.dumps(row), None, "", "odd", "[1]"])
    assert columns.left_out == {
        "text": "holds texts of more than 60 characters: no categories",
        "list": "holds lists or objects",
        "object": "holds lists or objects",
    }
    codes, values = columns.columns()["kind"]
    assert (codes.tolist(), values) == ([1, 0, 0, 0, 0], ["", "x" * 60])
    columns.add([json.dumps({f"c{number}": 1 for number in range(60)})])
    assert len(columns.columns()) == 50
    assert columns.left_out["c59"] == "comes after the first 50 columns"
