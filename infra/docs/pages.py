"""A hook of MkDocs: pages keep their places in the repository, so that their links hold.

MkDocs takes pages from one folder. Ours are in several (README.md, docs/, infra/, sencache/, …) and
link to one another and to other files. The site therefore has the paths of the repository: every
Markdown file of the navigation, and each file that one of them links to. A link to a folder or to a
hidden file, which a site does not show, becomes plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from infra.docs.paths import LINK, paths_of

ROOT = Path(__file__).resolve().parents[2]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of `docs_dir` by those of the navigation and what they link to."""
    pages = list(paths_of(config.nav))
    linked = {target for page in pages for target in targets(page) if shows(ROOT / target)}
    theme = [file for file in files if not file.src_uri.endswith(".md")]
    mine = [
        File.generated(config, path, abs_src_path=str(ROOT / path))
        for path in dict.fromkeys([*pages, *sorted(linked)])
    ]
    return Files([*theme, *mine])


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links to what the site does not show into their text."""
    folder = (ROOT / page.file.src_uri).parent

    def text(found: re.Match[str]) -> str:
        there = folder / found[2].partition("#")[0]
        return found[1] if there.exists() and not shows(there) else found[0]

    return LINK.sub(text, markdown)


def shows(path: Path) -> bool:
    """Whether the site shows a file of the repository."""
    return path.is_file() and not path.name.startswith(".")


def targets(page: str) -> Iterator[str]:
    """Yield the files and folders of the repository that a page links to."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for _, target in LINK.findall(text):
        path = target.partition("#")[0]
        if path and "://" not in target:
            yield str((ROOT / page).parent.joinpath(path).resolve().relative_to(ROOT))
