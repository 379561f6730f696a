"""`python -m jobs.benchmarks.rivals.document [OUT.json ...]`: the tables of two pages.

Each result is stored in the repository, one file per model and sampler. The tables of all stored
results then replace those between the marks: docs/benchmarks/rivals.md has what they say together,
docs/benchmarks/rivals_tables.md every arm by itself. A test renders them again and compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.benchmarks.quality.document.benchmarks_md import PAGES, replace_section, stored
from jobs.benchmarks.rivals.cells import RESULTS, Cell, cells_of, stored_cells
from jobs.benchmarks.rivals.summary import summary
from jobs.benchmarks.rivals.tables import READING, markdown
from pipeline.errors import UserError

KEPT = RESULTS / "demo-euler.json"
"""The result of the embedded model under its own sampler, which the front page shows."""
DOCUMENT = PAGES / "rivals.md"
TABLES = PAGES / "rivals_tables.md"
BEGIN = "<!-- rivals: begin; written by jobs.benchmarks.rivals.document -->"
END = "<!-- rivals: end -->"


def conditions_of(cell: Cell) -> str:
    """Return the conditions of a cell's numbers, in one line."""
    conditions, result = cell.written["conditions"], cell.result
    versions = conditions["versions"]
    missing = "".join(f"; {why}" for why in result["missing"])
    return (
        f"{conditions['gpu'] or conditions['cpu']}, {conditions['threads']} threads, torch "
        f"{versions['torch']}, diffusers {versions['diffusers']}, {conditions['date'][:10]}; "
        f"clips {result['prompts_hash']}, {result['rows']} per call, tuned on clips "
        f"{result['calibration_hash']}{missing}."
    )


def tables(cells: Sequence[Cell]) -> str:
    """Return the text between the marks of the page with every arm."""
    parts = []
    for cell in cells:
        parts += [f"## {cell.title}, {cell.short_sampler}", conditions_of(cell)]
        parts.append(markdown(cell.result))
    return "\n\n".join([*parts, READING])


def keep(written: Mapping[str, Any], folder: Path = RESULTS) -> list[Cell]:
    """Store a result, one file per sampler.

    Raises:
        UserError: Nothing was measured.
    """
    cells = cells_of(stored(written))
    if not cells:
        raise UserError("the result has no clips")
    folder.mkdir(exist_ok=True)
    for cell in cells:
        text = json.dumps(cell.written, separators=(",", ":"))
        (folder / cell.file_name).write_text(f"{text}\n")
    return cells


def show(folder: Path = RESULTS, document: Path = DOCUMENT, page: Path = TABLES) -> None:
    """Put the tables of all stored results into the two pages.

    Raises:
        UserError: A page lacks the marks.
    """
    cells = stored_cells(folder)
    for path, text in ((document, summary(cells)), (page, tables(cells))):
        path.write_text(replace_section(path.read_text(), text, BEGIN, END))


def main(argv: Sequence[str] | None = None) -> int:
    """Store the results at the given paths, if any, and update the pages."""
    for path in sys.argv[1:] if argv is None else argv:
        keep(json.loads(Path(path).read_text()))
    show()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
