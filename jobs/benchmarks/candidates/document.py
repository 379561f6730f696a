"""`python -m jobs.benchmarks.candidates.document NAME OUT.json`: the sections on choosing clips.

NAME is `drafts`, `draft-frames`, `good-clips` or `draft-shortcuts`, and OUT.json the output of that
benchmark. The result is stored in the repository, and its table replaces the text between the marks
of docs/benchmarks/choosing.md; `drafts` also draws its picture. A test renders the stored results
again and compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.benchmarks.candidates.draft_frames import HEADINGS as FRAMES_HEADINGS
from jobs.benchmarks.candidates.draft_frames import draft_frames_cells
from jobs.benchmarks.candidates.draft_tables import HEADINGS as DRAFT_HEADINGS
from jobs.benchmarks.candidates.draft_tables import agreement_cells, agreement_of
from jobs.benchmarks.candidates.good_clip_tables import HEADINGS as GOOD_HEADINGS
from jobs.benchmarks.candidates.good_clip_tables import good_clip_cells
from jobs.benchmarks.draft_shortcuts.tables import (
    HALF_HEADINGS,
    SHARED_HEADINGS,
    half_cells,
    shared_cells,
)
from jobs.benchmarks.quality.document.benchmarks_md import CHOOSING, keep_section, stored
from jobs.benchmarks.quality.document.tables import markdown_row
from pipeline.errors import UserError

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parents[3] / "assets" / "drafts-demo.png"


def section(name: str, written: Mapping[str, Any]) -> str:
    """Return the text between the marks.

    Args:
        name: Of the benchmark.
        written: The output of `jobs/benchmark.py NAME --json`.
    """
    conditions, result = written["conditions"], written["result"]
    versions = conditions["versions"]
    head = (
        f"{conditions['cpu']}, {conditions['threads']} thread, torch {versions['torch']}, "
        f"{conditions['date'][:10]}"
    )
    return f"{_SECTIONS[name](result)}\n\n{_size(result)}; {head}."


def marks(name: str) -> tuple[str, str]:
    """The lines around a section."""
    return (
        f"<!-- {name}: begin; written by jobs.benchmarks.candidates.document -->",
        f"<!-- {name}: end -->",
    )


def keep(name: str, written: Mapping[str, Any], document: Path = CHOOSING) -> None:
    """Store a result and put its table into the document.

    Raises:
        UserError: The document lacks the marks, or there is no such section.
    """
    if name not in _SECTIONS:
        raise UserError(f"{name}: there are {', '.join(_SECTIONS)}")
    text = section(name, written)
    keep_section(text, stored(written), RESULTS / f"{name}.json", document, *marks(name))
    if name == "drafts":
        draw(written["result"], PICTURE)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw rank correlation and what four drafts gain, over the evaluations of a draft.

    Raises:
        UserError: matplotlib is not installed.
    """
    from jobs.benchmarks.quality.document.plot import require_matplotlib

    pyplot = require_matplotlib()
    budgets = result["budgets"]
    found = [agreement_of(result, nfe) for nfe in budgets]
    most = found[-1].gain_of_four.mean + found[-1].regret_of_four.mean
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    lines = (
        ("rank correlation with the finished clips", [each.rank_correlation for each in found]),
        ("score gained by the best of 4 drafts", [each.gain_of_four for each in found]),
    )
    for axis, (title, values) in zip(axes, lines, strict=True):
        axis.plot(budgets, [each.mean for each in values], marker="o", markersize=4)
        axis.fill_between(
            budgets, [each.low for each in values], [each.high for each in values], alpha=0.15
        )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(f"evaluations of a draft, of {result['steps']} steps")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylim(top=1)
    axes[1].axhline(most, color="black", linestyle=":", label="best of 4 finished clips")
    axes[1].legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _size(result: Mapping[str, Any]) -> str:
    """How much was measured."""
    if "plans" in result:
        return f"{result['clips']} clips finished, drafts of {result['half']['prompts']} captions"
    if "tries" in result:
        return f"{result['prompts']} captions, $ at {result['price']:g} an hour of a core"
    captions = len(result["finished"] if "decoding" in result else result["prompts"])
    return f"{captions} captions, {result['seeds']} seeds each"


def _drafts(result: Mapping[str, Any]) -> str:
    return _table(DRAFT_HEADINGS, agreement_cells(result))


def _draft_frames(result: Mapping[str, Any]) -> str:
    return _table(FRAMES_HEADINGS, draft_frames_cells(result))


def _good_clips(result: Mapping[str, Any]) -> str:
    return _table(GOOD_HEADINGS, good_clip_cells(result))


def _shortcuts(result: Mapping[str, Any]) -> str:
    plans = _table(SHARED_HEADINGS, shared_cells(result["plans"]))
    return f"{plans}\n\n{_table(HALF_HEADINGS, half_cells(result['half']))}"


_SECTIONS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "drafts": _drafts,
    "draft-frames": _draft_frames,
    "good-clips": _good_clips,
    "draft-shortcuts": _shortcuts,
}


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(headings), ["---"] * len(headings), *rows]
    return "\n".join(markdown_row(list(line)) for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Store the result at a path and update the document."""
    given = list(sys.argv[1:] if argv is None else argv)
    if len(given) != 2:
        print(f"usage: {__doc__.partition(':')[0].strip('`')}", file=sys.stderr)
        return 2
    keep(given[0], json.loads(Path(given[1]).read_text()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
