"""The pages explain every column, and name none that does not exist."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from pipeline.dataset.schema import SCHEMA
from tests.docs.documents import PAGES, ROOT

STRUCTS = {
    field.name: {child.name for child in field.type}
    for field in SCHEMA
    if pa.types.is_struct(field.type)
}
NO_COLUMNS = {"parallel.degree", "parallel.cfg", "parallel.vae", "cache.stats", "cache.summary"}
"""A setting, or a method of the library, in the form of a column."""


def test_the_page_of_columns_explains_each_of_them() -> None:
    text = (ROOT / "docs/schema.md").read_text()
    explained = {
        name
        for cell in re.findall(r"^\| (`.*?) \| ", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)", cell)
    }
    assert {*SCHEMA.names} - explained == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_every_column_that_a_page_names_exists(page: str) -> None:
    codes = re.findall(r"`([^`\n]+)`", (ROOT / page).read_text())
    named = re.findall(r"(?<![\w./-])([a-z_]+)\.([a-z_0-9]+)\b", "\n".join(codes))
    assert {
        f"{column}.{part}"
        for column, part in named
        if column in STRUCTS and part not in STRUCTS[column] | {"py", "md"}
    } - NO_COLUMNS == set()
