"""`python -m jobs.benchmarks.low_end.document DEMO.json SECOND.json WORST.json`: fill the page.

The results, `low-end` of the embedded model and of a second one of its shape and `worst-clips`, are
stored in the repository, and their tables replace the text between the marks of the document, with
those of what was tried on development clips (`results/tried.json`). A test renders them again.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.benchmarks.low_end.tables import against_bounded, shown
from jobs.benchmarks.quality.document.benchmarks_md import PAGES, keep_section, stored
from jobs.benchmarks.quality.document.tables import markdown_row
from pipeline.models.samplers import EULER, UNIPC

BEGIN = "<!-- low end: begin; written by jobs.benchmarks.low_end.document -->"
END = "<!-- low end: end -->"
DOCUMENT = PAGES / "low_end.md"
RESULTS = Path(__file__).parent / "results"
KEPT, TRIED = RESULTS / "low_end.json", RESULTS / "tried.json"
MODELS = ("embedded", "second")
SHORT = {EULER: "Euler", UNIPC: "UniPC"}
MAIN = ("bounded", "free", "unrepaired", "fitted", "fewer")


def section(written: Sequence[Mapping[str, Any]]) -> str:
    """Return the text between the marks.

    Args:
        written: The outputs of both commands, as they are stored, and what was tried.
    """
    *models, worst, tried = written
    named = list(zip(MODELS, models, strict=False))
    others = [way for way in _ways(models) if way not in MAIN]
    parts = [_table(named, MAIN), conditions_line(models)]
    if others:
        parts += ["**What else was tried**", _table(named, ("free", *others))]
    parts += ["**Tried on 8 development clips, Euler**", tried_table(tried["result"])]
    parts += ["**Who is worst, and what tells**", worst_table(worst["result"])]
    return "\n\n".join(parts)


def conditions_line(models: Sequence[Mapping[str, Any]]) -> str:
    """Return how the numbers were measured."""
    conditions, result = models[0]["conditions"], models[0]["result"]
    return (
        "PSNR to the uncached clip in dB, mean / worst tenth, and the paired difference to bounded "
        f"(= where its interval holds 0); {result['clips']} held-out clips, {result['steps']} "
        f"steps, sums fitted on {result['fit_clips']} calibration clips; {conditions['cpu']}, "
        f"torch {conditions['versions']['torch']}, {conditions['date'][:10]}."
    )


def worst_table(result: Mapping[str, Any]) -> str:
    """Share of the variance that is explained, and of the worst tenth that is caught."""
    points = [
        (f"{SHORT[sampler.partition('/')[0]]}, {nfe}", found["told"])
        for sampler, by_nfe in result["samplers"].items()
        for nfe, found in by_nfe.items()
    ]
    facts = list(points[0][1])
    lines = [markdown_row(["sampler, evaluations", *facts])]
    lines.append(markdown_row(["---"] * (len(facts) + 1)))
    for name, told in points:
        cells = [f"{told[fact]['explained']:.2f}, {told[fact]['caught']:.0%}" for fact in facts]
        lines.append(markdown_row([name, *cells]))
    return "\n".join(lines)


def tried_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean and lowest PSNR of the development clips, per idea and number of evaluations."""
    points = sorted({nfe for row in rows for nfe in row["points"]}, key=int)
    lines = [markdown_row(["idea", *points]), markdown_row(["---"] * (len(points) + 1))]
    for row in rows:
        found = [row["points"].get(nfe, {}).get("per_clip") for nfe in points]
        cells = [f"{statistics.fmean(db):.1f} / {min(db):.1f}" if db else "–" for db in found]
        lines.append(markdown_row([row["idea"], *cells]))
    return "\n".join(lines)


def _ways(models: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(cell["way"] for _, _, cell in _cells(models)))


def _cells(models: Sequence[Mapping[str, Any]]) -> list[tuple[int, str, Mapping[str, Any]]]:
    return [
        (number, sampler, cell)
        for number, written in enumerate(models)
        for sampler, found in written["result"]["samplers"].items()
        for cell in found["cells"]
    ]


def _table(named: Sequence[tuple[str, Mapping[str, Any]]], ways: Sequence[str]) -> str:
    """One row per model, sampler and number of evaluations."""
    lines = [markdown_row(["model, sampler", "evaluations", *ways])]
    lines.append(markdown_row(["---"] * (len(ways) + 2)))
    for model, written in named:
        for sampler, found in written["result"]["samplers"].items():
            for nfe in sorted({cell["nfe"] for cell in found["cells"]}):
                of = {cell["way"]: cell for cell in found["cells"] if cell["nfe"] == nfe}
                if not any(way in of for way in ways[1:]):
                    continue
                cells = [_cell(of[way]) if way in of else "–" for way in ways]
                name = f"{model}, {SHORT[sampler.partition('/')[0]]}"
                lines.append(markdown_row([name, str(nfe), *cells]))
    return "\n".join(lines)


def _cell(cell: Mapping[str, Any]) -> str:
    gap = against_bounded(cell)
    return f"{shown(cell)} ({gap})" if gap else shown(cell)


def keep(
    results: Sequence[Mapping[str, Any]], kept: Path = KEPT, document: Path = DOCUMENT
) -> None:
    """Store results and put their tables into the document.

    Raises:
        UserError: The document lacks the marks.
    """
    values = [stored(each) for each in results]
    text = section([*values, json.loads(TRIED.read_text())])
    keep_section(text, values, kept, document, BEGIN, END)


def main(argv: Sequence[str] | None = None) -> int:
    """Store the results at the given paths and update the document."""
    given = list(sys.argv[1:] if argv is None else argv)
    if len(given) != len(MODELS) + 1:
        print(f"usage: {__doc__.partition(':')[0].strip('`')}", file=sys.stderr)
        return 2
    keep([json.loads(Path(path).read_text()) for path in given])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
