"""`python -m jobs.benchmarks.quality.document.second_model OUT.json`: another model's table.

The results are of a model that is not shipped. They show whether the arms have the same order, and
what a plan loses if its profile was measured with other steps or another shift. They are stored in
the repository, and their table replaces the text between the marks of the document. A test renders
the stored results again and compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.benchmarks.quality.document.benchmarks_md import (
    DOCUMENT,
    conditions_line,
    keep_section,
    stored,
)
from jobs.benchmarks.quality.document.tables import markdown_row

BEGIN = "<!-- second model: begin; written by jobs.benchmarks.quality.document.second_model -->"
END = "<!-- second model: end -->"
KEPT = Path(__file__).parents[1] / "results" / "second.json"
"""The results that the document shows."""

NOT_MEASURED = "–"


def section(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the text between the marks.

    Args:
        results: Outputs of `jobs/benchmark.py quality --json`.
    """
    arms = _arms(results)
    first = results[0]
    head = ["sampler, steps, shift", "profile", "clips", "NFE", *arms, "planned over the next"]
    lines = [markdown_row(head), markdown_row(["---"] * len(head))]
    for written in results:
        lines += _rows(written["result"], arms)
    return "\n\n".join(
        [
            f"{conditions_line(first)}; {first['result']['split']} clips. "
            "PSNR in dB of the decoded clip against the uncached run, mean / worst tenth.",
            "\n".join(lines),
        ]
    )


def _arms(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the arms of all results in the order of their runs, the planned one last."""
    seen: dict[str, None] = {}
    for written in results:
        for measured in written["result"]["samplers"].values():
            seen |= dict.fromkeys(arm["arm"] for arm in measured["arms"])
    return [*(arm for arm in seen if arm != "planned"), "planned"]


def _rows(result: Mapping[str, Any], arms: Sequence[str]) -> list[str]:
    """Return one row for each sampler and point of a result."""
    rows = []
    steps = result["request"]["num_inference_steps"]
    profile = "of 50 steps, shift 3" if result["profile"] else "own"
    for sampler, measured in result["samplers"].items():
        name, _, shift = sampler.partition("/")
        for point in result["points"]:
            of = {arm["arm"]: arm for arm in measured["arms"] if arm["wanted_nfe"] == point}
            cells = [_cell(of.get(arm)) for arm in arms]
            place = f"{name}, {steps}, {float(shift):g}"
            counts = [str(result["clips"]), str(point)]
            rows.append(markdown_row([place, profile, *counts, *cells, _lead(of)]))
    return rows


def _psnr(arm: Mapping[str, Any] | None) -> Mapping[str, float] | None:
    found: Mapping[str, float] | None = (arm or {}).get("to", {}).get("uncached", {}).get("psnr")
    return found


def _cell(arm: Mapping[str, Any] | None) -> str:
    psnr = _psnr(arm)
    return NOT_MEASURED if psnr is None else f"{psnr['mean']:.1f} / {psnr['worst_decile']:.1f}"


def _lead(of: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the difference between the planned arm's mean and that of the best other arm."""
    means = {arm: psnr["mean"] for arm, each in of.items() if (psnr := _psnr(each)) is not None}
    planned = means.pop("planned", None)
    if planned is None or not means:
        return NOT_MEASURED
    best = max(means, key=lambda arm: means[arm])
    return f"{planned - means[best]:+.1f} ({best})"


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
    if not given:
        print(f"usage: {__doc__.partition(':')[0].strip('`')}", file=sys.stderr)
        return 2
    keep([json.loads(Path(path).read_text()) for path in given])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
