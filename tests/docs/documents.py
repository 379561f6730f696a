"""What the tests of the documentation read: pages, code blocks, commands and links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml

from infra.docs.paths import LINK, paths_of

ROOT = Path(__file__).parents[2]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
PAGES = [path for path in paths_of(SITE["nav"]) if not path.startswith("docs/api/")]
PLACEHOLDERS = {"N": "2", "NAME": "demo"}
"""Words of commands that stand for the reader's own."""

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str, *languages: str) -> list[str]:
    """The fenced blocks of a page in some languages; "" is a block without one."""
    return [text for name, text in _BLOCK.findall(_text(page)) if name in languages]


def commands(page: str) -> Iterator[list[str]]:
    """The words of every call of a job or of make in a page, in a block or within a sentence."""
    lines = [line for text in blocks(page, "", "bash", "sh") for line in _joined(text).splitlines()]
    lines += re.findall(r"`([^`\n]+)`", _BLOCK.sub("", _text(page)))
    for line in lines:
        if re.match(r"make |.*\bpython jobs/\w+\.py", line):
            words = shlex.split(line, comments=True)
            yield [PLACEHOLDERS.get(word, word) for word in words]


def links(page: str) -> Iterator[tuple[str, str]]:
    """The links of a page to places of the repository, as path and anchor."""
    for _, target in LINK.findall(_BLOCK.sub("", _text(page))):
        path, _, anchor = target.partition("#")
        if "://" not in target:
            place = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
            yield str(place.relative_to(ROOT)), anchor


def anchors(page: str) -> set[str]:
    """The anchors of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", _BLOCK.sub("", _text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def section(page: str, title: str) -> str:
    """The text of a page below a heading of the second level."""
    (found,) = re.findall(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", _text(page), re.MULTILINE | re.DOTALL
    )
    return str(found)


def demo_flags() -> list[str]:
    """The flags of jobs/generate.py in `make demo`."""
    (line,) = re.findall(r"^\t\S+ jobs/generate\.py (.*)$", (ROOT / "Makefile").read_text(), re.M)
    return shlex.split(line)


def _joined(text: str) -> str:
    return re.sub(r"\\\n", " ", text)


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")
