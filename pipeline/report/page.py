"""Renders a report as one HTML file that needs no other file.

The page's content security policy forbids all network access and allows one script by its hash:
`templates/player.js`, which plays clips. Charts are SVG (`pipeline.report.charts`). Jinja2 escapes
every text. Each number on the page carries its path in report.json.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.monitoring.progress import duration
from pipeline.report import text
from pipeline.report.charts.plots import charts
from pipeline.report.document import Report
from pipeline.report.gallery import Preview
from pipeline.report.tables.clip_kinds import each_kind
from pipeline.report.tables.document import Quality
from pipeline.wording import called_as, more_than_promised

_FOLDER = resources.files(__package__) / "templates"
_WORDS: dict[str, Callable[[Any], str]] = {
    "count": text.count,
    "dollars": text.dollars,
    "duration": duration,
    "percent": text.percent,
    "one": lambda value: text.NONE if value is None else f"{value:,.1f}",
    "two": lambda value: text.NONE if value is None else f"{value:,.2f}",
    "four": lambda value: text.NONE if value is None else f"{value:.4f}",
    "short": text.short,
    "compared": text.compared,
    "settings": text.settings,
    "promise": lambda entry: _promise(entry),
    "times": lambda value: text.NONE if value is None else f"{value:.2f}×",
    "db": text.decibels,
    "thousand": lambda value: text.dollars(None if value is None else 1000 * value),
}


def render(report: Report, previews: Mapping[str, Preview]) -> str:
    """Return the page as HTML.

    Args:
        report: The numbers to show.
        previews: Previews of clips and controls by id; those that could not be read are absent.
    """
    value = json.loads(report.model_dump_json())
    script, drawn = _read("player.js"), charts(report)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_read),
    )
    environment.filters |= _WORDS
    shown = {clip.sample_id for clip in report.gallery}
    template = environment.get_template("index.html.jinja")
    return template.render(
        report=report,
        previews=previews,
        charts=drawn,
        errors=not drawn.keys().isdisjoint(("errors", "quality")),
        worst=any(clip.sample_id not in shown for clip in report.worst),
        kept=text.kept(report.kept) if report.kept else "",
        recaptions=" · ".join(filter(None, text.recaptions(report.recaptions)))
        if report.recaptions
        else "",
        included=text.INCLUDED,
        kinds=each_kind(report.settings),
        s=lambda count: "" if count == 1 else "s",
        called_as=called_as,
        number=lambda path, word: _number(value, path, word),
        interval=lambda path, word: _interval(value, path, word),
        style=Markup(_read("style.css")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=_policy(script),
        videos=_json({name: asdict(preview)["video"] for name, preview in previews.items()}),
    )


def written(value: Any, word: str) -> str:
    """Format a number as the page shows it."""
    return text.NONE if value is None else str(_WORDS[word](value))


def _interval(value: Any, path: str, word: str) -> Markup:
    """Format the bounds of an estimate; "" where both are written alike."""
    low, high = (_number(value, f"{path}.{end}", word) for end in ("low", "high"))
    if low.striptags() == high.striptags():
        return Markup()
    return Markup("95 %: {} to {}").format(low, high)


def _number(value: Any, path: str, word: str) -> Markup:
    """Format a number of report.json and mark it with its path there."""
    for key in path.split("."):
        value = value[int(key) if key.isdigit() else key] if value is not None else None
    tag = Markup('<span class="n" data-path="{}" data-word="{}">{}</span>')
    return tag.format(path, word, written(value, word))


def _promise(entry: Quality) -> str:
    """What the measured error of a line about quality says of the promised one; "" if it holds."""
    if entry.promised_error is None or entry.latent_error is None:
        return ""
    return more_than_promised(entry.promised_error, entry.latent_error)


def _json(value: Any) -> Markup:
    """Encode JSON for a script element: none of its characters can end the element."""
    ascii_json = json.dumps(value, separators=(",", ":"))
    for char in "<>&":
        ascii_json = ascii_json.replace(char, f"\\u{ord(char):04x}")
    return Markup(ascii_json)  # noqa: S704 - it holds no markup any more


def _policy(script: str) -> str:
    return (
        f"default-src 'none'; script-src 'sha256-{_sha256(script)}'; style-src 'unsafe-inline'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
