"""Pages of the navigation, and links in Markdown. Needs nothing, so that tests can use it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
"""Text and target of a link, or of an image."""


def paths_of(nav: Any) -> Iterator[str]:
    """Yield the pages of a navigation of MkDocs in order."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list | dict):
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from paths_of(entry)
