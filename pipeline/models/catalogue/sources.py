"""Where the settings of each model and class are from, as the table of `docs/models.md`.

Print it with `python -m pipeline.models.catalogue.sources` after a value has changed.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import defaultdict
from typing import Any

from pipeline.models.registry import MODELS, PIPELINES
from pipeline.models.spec import ModelSpec, PipelineClass

_LONGEST = 40
"""Characters of a value that the table shows; negative prompts are longer."""


def values_of(known: ModelSpec | PipelineClass) -> dict[str, Any]:
    """The sampling settings and the size rules that are set, by their names."""
    found = {**_set(known.defaults), **_set(known.sizes)}
    if found["min_frames"] == 1:
        del found["min_frames"]  # no rule
    return {name: value for name, value in found.items() if value not in (None, "", ())}


def sources_table() -> str:
    """Return the table in Markdown: a row for each source of each model and class."""
    lines = ["| model or class | settings | source |", "|---|---|---|"]
    every: list[ModelSpec | PipelineClass] = [*MODELS.values(), *PIPELINES.values()]
    for known in every:
        by_source: dict[str, list[str]] = defaultdict(list)
        for name, value in values_of(known).items():
            source = known.sources.get(name) or known.sources["*"]
            by_source[source].append(f"{name} {_shown(value)}")
        for source, settings in by_source.items():
            lines.append(f"| {known.name} | {', '.join(settings)} | {source} |")
    return "\n".join(lines)


def _set(values: Any) -> dict[str, Any]:
    return {each.name: getattr(values, each.name) for each in dataclasses.fields(values)}


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[1]:g} up to {value[0]:,} pixels, {value[2]:g} above"
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(sources_table() + "\n")
