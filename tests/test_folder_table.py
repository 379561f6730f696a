"""The documentation says of every video class what becomes of a folder of it."""

from __future__ import annotations

from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[1] / "docs" / "models_table.md"


@pytest.mark.slow
def test_the_page_has_every_class_as_the_catalogue_treats_it() -> None:
    from tests.folder_table import section

    page = DOCUMENT.read_text().splitlines()
    lines = [each for each in section({}).splitlines() if each]
    assert len(lines) > 40
    assert [each for each in lines if each not in page] == []
