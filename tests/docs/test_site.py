"""The site of `make docs`: its pages and links exist, and it shows the public names."""

from __future__ import annotations

import re

import pytest

import sencache
from infra.docs.paths import paths_of
from tests.docs.documents import PAGES, ROOT, SITE, anchors, links


def test_every_document_is_a_page_and_every_page_exists() -> None:
    pages = list(paths_of(SITE["nav"]))
    assert len(set(pages)) == len(pages)
    assert {page for page in pages if not (ROOT / page).is_file()} == set()
    documents = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert documents - set(pages) == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    for path, anchor in links(page):
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in anchors(path), f"{path}#{anchor}"


def test_the_reference_names_every_public_name_of_the_library() -> None:
    shown = re.findall(r"^::: sencache\.(\w+)$", (ROOT / "docs/api/sencache.md").read_text(), re.M)
    assert sorted(shown) == sorted(sencache.__all__)


def test_nothing_is_fetched_by_the_site_or_its_readers() -> None:
    assert SITE["strict"] is True
    assert SITE["theme"]["font"] is False
    assert not {"extra_javascript", "extra_css"} & SITE.keys()
