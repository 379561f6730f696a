"""The numbers of a report as one HTML file that needs nothing else.

Its policy forbids all network access and every script but the three of this file, named by their
hashes; Jinja2 escapes every text. Numbers carry the path by which report.json knows them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.report import console
from pipeline.report.document import Report
from pipeline.report.gallery import Preview

_FOLDER = resources.files(__package__) / "page"
_WORDS: dict[str, Callable[[Any], str]] = {
    "count": console.count,
    "dollars": console.dollars,
    "duration": console.duration,
    "percent": console.percent,
    "size": console.size,
    "plain": str,
    "one": lambda value: console.NONE if value is None else f"{value:,.1f}",
    "two": lambda value: console.NONE if value is None else f"{value:,.2f}",
    "four": lambda value: console.NONE if value is None else f"{value:.4f}",
    "times": lambda value: console.NONE if value is None else f"{value:.2f}×",
    "db": lambda value: console.NONE if value is None else f"{value:.1f} dB",
}


def render(report: Report, previews: Mapping[str, Preview]) -> str:
    """The page.

    Args:
        report: Its numbers.
        previews: Clips and controls by id, as far as they could be read.
    """
    value = json.loads(report.model_dump_json())
    scripts = [_plotly(), _read("plots.js")]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= _WORDS
    template = environment.from_string(_read("index.html.jinja"))
    return template.render(
        report=report,
        previews=previews,
        number=lambda path, word: _number(value, path, word),
        style=Markup(_read("style.css")),  # noqa: S704 - ours
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - ours and plotly's
        policy=_policy(scripts),
        data=_json(value),
        videos=_json({name: asdict(preview)["video"] for name, preview in previews.items()}),
    )


def written(value: Any, word: str) -> str:
    """A number as the page writes it."""
    return console.NONE if value is None else str(_WORDS[word](value))


def _number(value: Any, path: str, word: str) -> Markup:
    """A number of report.json, marked with where it stands there."""
    for key in path.split("."):
        value = value[int(key) if key.isdigit() else key] if value is not None else None
    tag = Markup('<span class="n" data-path="{}" data-word="{}">{}</span>')
    return tag.format(path, word, written(value, word))


def _json(value: Any) -> Markup:
    """JSON inside a script element: no character in it can end the element."""
    text = json.dumps(value, separators=(",", ":"))  # ASCII
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704 - it holds no markup any more


def _policy(scripts: list[str]) -> str:
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script = str(get_plotlyjs())
    if "</script" in script.lower():
        raise RuntimeError("this plotly.js cannot be put into a page: it ends its own element")
    return script
