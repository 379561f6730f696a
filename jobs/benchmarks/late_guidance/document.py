"""`python -m jobs.benchmarks.late_guidance.document DEMO.json [SECOND.json]`: fill the page.

The results, of the embedded model and perhaps of a second one of its shape, are stored in the
repository, and their table replaces the text between the marks of the document. A test renders them
again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.benchmarks.late_guidance.branch_plans import KINDS
from jobs.benchmarks.quality.document.benchmarks_md import DOCUMENT, keep_section, stored
from jobs.benchmarks.quality.document.tables import markdown_row
from pipeline.models.samplers import EULER, UNIPC

BEGIN = "<!-- late guidance: begin; written by jobs.benchmarks.late_guidance.document -->"
END = "<!-- late guidance: end -->"
KEPT = Path(__file__).parent / "results" / "guidance.json"
MODELS = ("embedded", "second")
SHORT = {EULER: "Euler", UNIPC: "UniPC"}


def section(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the text between the marks.

    Args:
        results: Outputs of `jobs/benchmark.py late-guidance --json`, one per model.
    """
    head = ["model, sampler", "evaluations", *KINDS, "nearest to planned"]
    lines = [markdown_row(head), markdown_row(["---"] * len(head))]
    for model, written in zip(MODELS, results, strict=False):
        for sampler, found in written["result"]["samplers"].items():
            lines += _rows(f"{model}, {SHORT[sampler.partition('/')[0]]}", found)
    return "\n".join([*lines, "", conditions_line(results)])


def conditions_line(results: Sequence[Mapping[str, Any]]) -> str:
    """Return how the numbers were measured."""
    conditions, result = results[0]["conditions"], results[0]["result"]
    fits = [
        f"{model} {found['uncached']['right']:.0%} and {found['uncached']['fit']:.3f}"
        for model, written in zip(MODELS, results, strict=False)
        for found in list(written["result"]["samplers"].values())[:1]
    ]
    tuned = " and ".join(f"{written['result']['tuning_clips']}" for written in results)
    return (
        f"{result['clips']} held-out clips, plans chosen on {tuned} calibration "
        f"clips, {result['steps']} steps, guidance {result['guidance_scale']:g}; share of uncached "
        f"clips that are right, and their fit: {', '.join(fits)}; {conditions['cpu']}, "
        f"{conditions['threads']} thread, torch {conditions['versions']['torch']}, "
        f"{conditions['date'][:10]}."
    )


def _rows(name: str, found: Mapping[str, Any]) -> list[str]:
    """One row per budget."""
    rows = []
    for budget in dict.fromkeys(arm["budget"] for arm in found["arms"]):
        of = {arm["kind"]: arm for arm in found["arms"] if arm["budget"] == budget}
        others = {kind: arm for kind, arm in of.items() if kind != "planned"}
        best = max(others, key=lambda kind: others[kind]["psnr"]["mean"])
        gap = others[best]["to_planned"]
        half = (gap["high"] - gap["low"]) / 2
        lead = f"{best}: {'= ' if gap['tie'] else ''}{gap['mean']:+.1f} ± {half:.1f}"
        cells = [_cell(of[kind]) for kind in KINDS]
        rows.append(markdown_row([name, str(budget), *cells, lead]))
    return rows


def _cell(arm: Mapping[str, Any]) -> str:
    split = f"{len(arm['computed'])} + {len(arm['guided'])}"
    return (
        f"{arm['psnr']['mean']:.1f} / {arm['worst_decile']:.1f} ({split}; {arm['right']:.0%}, "
        f"{arm['fit']:.3f})"
    )


def keep(
    results: Sequence[Mapping[str, Any]], kept: Path = KEPT, document: Path = DOCUMENT
) -> None:
    """Store results and put their table into the document.

    Raises:
        UserError: The document lacks the marks.
    """
    values = [stored(each) for each in results]
    keep_section(section(results), values, kept, document, BEGIN, END)


def main(argv: Sequence[str] | None = None) -> int:
    """Store the results at the given paths and update the document."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not 1 <= len(given) <= len(MODELS):
        print(f"usage: {__doc__.partition(':')[0].strip('`')}", file=sys.stderr)
        return 2
    keep([json.loads(Path(path).read_text()) for path in given])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
