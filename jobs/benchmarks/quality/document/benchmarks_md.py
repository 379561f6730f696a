"""`python -m jobs.benchmarks.quality.document.benchmarks_md OUT.json`: fill the page on quality.

Several files are one result whose samplers were measured apart, by `--sampler`.

The result is stored in the repository and its tables replace those between the marks of the
document. A test renders the stored result again and compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.benchmarks.quality.document.tables import READING, markdown
from pipeline.errors import UserError

BEGIN = "<!-- quality: begin; written by jobs.benchmarks.quality.document.benchmarks_md -->"
END = "<!-- quality: end -->"

PATH_OPTIONS = (
    *("--json", "--plot", "--cache-dir", "--model-path", "--profile"),
    *("--partial", "--drafts"),
)
"""Options whose value is a path on one machine."""

KEPT = Path(__file__).parents[1] / "results" / "demo.json"
"""The result that the document shows."""

PAGES = Path(__file__).parents[4] / "docs" / "benchmarks"
"""The pages that BENCHMARKS.md leads to."""

DOCUMENT = PAGES / "quality.md"
"""The page on picture quality."""

CHOOSING = PAGES / "choosing.md"
"""The page on scores, drafts and good clips."""


def section(written: Mapping[str, Any]) -> str:
    """Return the text between the marks.

    Args:
        written: The output of `jobs/benchmark.py quality --json`.
    """
    result = written["result"]
    lpips = result["lpips"] if result["lpips"].startswith("no ") else "LPIPS in the JSON"
    return "\n\n".join([f"{conditions_line(written)}; {lpips}.", markdown(result), READING])


def conditions_line(written: Mapping[str, Any]) -> str:
    """Return the conditions of a result: machine, versions, date, clips; without a full stop."""
    conditions, result = written["conditions"], written["result"]
    versions = conditions["versions"]
    return (
        f"{conditions['gpu'] or conditions['cpu']}, {conditions['threads']} threads, torch "
        f"{versions['torch']}, diffusers {versions['diffusers']}, {conditions['date'][:10]}; "
        f"clips {result['prompts_hash']}, seeds from {result['seeds'][0]}, "
        f"{result['rows']} per call, tuned on clips {result['calibration_hash']}"
    )


def replace_section(document: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """Replace the text between two marks of a document.

    Raises:
        UserError: The document does not have exactly one of each mark, in this order.
    """
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in after or end in before + after:
        raise UserError(f"the document needs one line {begin!r} and, after it, one {end!r}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def keep(written: Mapping[str, Any], kept: Path = KEPT, document: Path = DOCUMENT) -> None:
    """Store a result and put its tables into the document.

    Raises:
        UserError: The document lacks the marks.
    """
    keep_section(section(written), stored(written), kept, document, BEGIN, END)


def keep_section(text: str, values: Any, kept: Path, document: Path, begin: str, end: str) -> None:
    """Put a text between two marks of a document, and store the values that it shows.

    Raises:
        UserError: The document lacks the marks; then nothing is stored.
    """
    after = replace_section(document.read_text(), text, begin, end)
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(values, separators=(",", ":")) + "\n")
    document.write_text(after)


def stored(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result as it is stored: without paths of the machine that made it."""
    command = _without_paths(written["conditions"].get("command", ""))
    return {**written, "conditions": {**written["conditions"], "command": command}}


def joined(parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Join several results that differ in their samplers only.

    Raises:
        UserError: They differ in something else, or a sampler is in two of them.
    """
    first, *others = parts
    samplers = dict(first["result"]["samplers"])
    for other in others:
        for key in first["result"].keys() - {"samplers"}:
            if other["result"].get(key) != first["result"][key]:
                raise UserError(f"the results differ in {key}: they are of different measurements")
        if both := samplers.keys() & other["result"]["samplers"].keys():
            raise UserError(f"{both.pop()} is in two of the results")
        samplers |= other["result"]["samplers"]
    commands = [part["conditions"].get("command", "") for part in parts]
    conditions = {**first["conditions"], "command": " && ".join(commands)}
    return {"conditions": conditions, "result": {**first["result"], "samplers": samplers}}


def _without_paths(command: str) -> str:
    """Return a command without paths of one machine."""
    given = command.split()
    places = {i for i, word in enumerate(given) if word in PATH_OPTIONS}
    return " ".join(w for i, w in enumerate(given) if not {i, i - 1} & places)


def main(argv: Sequence[str] | None = None) -> int:
    """Store the results at the given paths and update the document."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given:
        print(f"usage: {__doc__.partition(':')[0].strip('`')}", file=sys.stderr)
        return 2
    keep(joined([json.loads(Path(path).read_text()) for path in given]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
