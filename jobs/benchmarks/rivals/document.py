"""`python -m jobs.benchmarks.rivals.document OUT.json`: the tables of docs/benchmarks/rivals.md.

The result is stored in the repository and its tables replace those between the marks of its model.
A test renders the stored results again and compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.benchmarks.quality.document.benchmarks_md import PAGES, keep_section, stored
from jobs.benchmarks.rivals.tables import READING, markdown
from pipeline.errors import UserError

RESULTS = Path(__file__).parent / "results"
KEPT = RESULTS / "demo.json"
"""The result of the embedded model."""
DOCUMENT = PAGES / "rivals.md"


def marks_of(model: str) -> tuple[str, str]:
    """Return the marks of a model's tables, by the name of its spec."""
    name = "rivals" if model == "demo" else f"rivals on {model}"
    return (
        f"<!-- {name}: begin; written by jobs.benchmarks.rivals.document -->",
        f"<!-- {name}: end -->",
    )


def section(written: Mapping[str, Any]) -> str:
    """Return the text between the marks.

    Args:
        written: The output of `jobs/benchmark.py rivals --json`.
    """
    conditions, result = written["conditions"], written["result"]
    versions = conditions["versions"]
    head = (
        f"{conditions['gpu'] or conditions['cpu']}, {conditions['threads']} threads, torch "
        f"{versions['torch']}, diffusers {versions['diffusers']}, {conditions['date'][:10]}; "
        f"clips {result['prompts_hash']}, {result['rows']} per call, tuned on clips "
        f"{result['calibration_hash']}"
    )
    missing = "".join(f"; {why}" for why in result["missing"])
    return "\n\n".join([f"{head}{missing}.", markdown(result), READING])


def keep(written: Mapping[str, Any], folder: Path = RESULTS, document: Path = DOCUMENT) -> None:
    """Store a result and put its tables into the document.

    Raises:
        UserError: The document lacks the marks, or nothing was measured.
    """
    if not any(written["result"]["samplers"].values()):
        raise UserError("the result has no clips")
    model = written["result"]["model"]
    kept = folder / f"{model}.json"
    keep_section(section(written), stored(written), kept, document, *marks_of(model))


def main(argv: Sequence[str] | None = None) -> int:
    """Store the result at a path and update the document."""
    given = list(sys.argv[1:] if argv is None else argv)
    if len(given) != 1:
        print(f"usage: {__doc__.partition(':')[0].strip('`')}", file=sys.stderr)
        return 2
    keep(json.loads(Path(given[0]).read_text()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
