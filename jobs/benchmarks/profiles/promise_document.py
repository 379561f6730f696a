"""`python -m jobs.benchmarks.profiles.promise_document OUT.json ...`: the table of promises.

Results of `benchmark.py promise` are stored in the repository, and their tables replace the text
between the marks of the document. A test renders the stored results again and compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.benchmarks.profiles.promise import summary
from jobs.benchmarks.profiles.promise_differences import difference_table
from jobs.benchmarks.quality.document.benchmarks_md import DOCUMENT, keep_section, stored
from jobs.benchmarks.quality.document.tables import markdown_row

BEGIN = "<!-- promises: begin; written by jobs.benchmarks.profiles.promise_document -->"
END = "<!-- promises: end -->"
KEPT = Path(__file__).parent / "results" / "promise.json"
"""The results that the document shows."""


def section(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the text between the marks.

    Args:
        results: Outputs of `jobs/benchmark.py promise --json`. Those of the same weights and
            number of clips share their tables.
    """
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for each in results:
        result = each["result"]
        groups.setdefault((_model(result), result["clips"]), []).append(each)
    parts = []
    for (model, clips), members in groups.items():
        rows = [row for each in members for row in each["result"]["rows"]]
        parts += [_head(model, clips, members[0]["conditions"]), _summary(rows)]
        parts += [each for each in (difference_table(rows), _errors(rows)) if each]
    return "\n\n".join(parts)


def _model(result: Mapping[str, Any]) -> str:
    """What the clips were made with."""
    if result["weights"] == "shipped":
        return f"`{result['model']}`"
    return "The second demo model, which no prior rests on"


def _head(model: str, clips: int, conditions: Mapping[str, Any]) -> str:
    versions = conditions["versions"]
    return (
        f"{model}, {clips} held-out clips, {conditions['gpu'] or conditions['cpu']}, torch "
        f"{versions['torch']}, diffusers {versions['diffusers']}, {conditions['date'][:10]}."
    )


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per source, over all samplers, steps and evaluations."""
    lines = [
        markdown_row(
            [
                "plans from, all settings",
                "promise off by a factor of",
                "with a probe",
                "PSNR dB mean / worst tenth",
            ]
        ),
        markdown_row(["---"] * 4),
    ]
    for each in summary(rows):
        quality = f"{each['psnr']:.1f} / {each['psnr_tenth']:.1f}"
        factors = [_shown(each[name]) for name in ("promised", "with_probe")]
        lines.append(markdown_row([each["from"], *factors, quality]))
    return "\n".join(lines)


def _errors(rows: Sequence[Mapping[str, Any]]) -> str:
    """Promised and measured errors by sampler, steps, source and evaluations."""
    points = sorted({int(row["nfe"]) for row in rows if "promised" in row}, reverse=True)
    lines = [
        markdown_row(
            ["promised, with a probe: measured", *(f"{point} evaluations" for point in points)]
        ),
        markdown_row(["---"] * (1 + len(points))),
    ]
    cells: dict[str, dict[int, str]] = {}
    for row in rows:
        if "promised" in row:
            name = f"{row['sampler'].partition('Scheduler')[0]} {row['steps']}, {row['from']}"
            probed = f", {_shown(row['with_probe'])}" if row["with_probe"] else ""
            text = f"{_shown(row['promised'])}{probed}: {_shown(row['measured'])}"
            cells.setdefault(name, {})[int(row["nfe"])] = text
    for name, by_point in cells.items():
        lines.append(markdown_row([name, *(by_point.get(point, "") for point in points)]))
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def keep(
    results: Sequence[Mapping[str, Any]], kept: Path = KEPT, document: Path = DOCUMENT
) -> None:
    """Store results and put their tables into the document.

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
