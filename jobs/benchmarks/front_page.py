"""`python -m jobs.benchmarks.front_page`: the five numbers of BENCHMARKS.md, from stored results.

Each number has the command and the conditions that gave it, and what it does not say. A test writes
them again and compares.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.benchmarks.candidates.document import RESULTS as CHOOSING_RESULTS
from jobs.benchmarks.candidates.good_clip_tables import HEADINGS as GOOD_HEADINGS
from jobs.benchmarks.candidates.good_clip_tables import good_clip_cells
from jobs.benchmarks.quality.arms import PAPER
from jobs.benchmarks.quality.document.benchmarks_md import KEPT as QUALITY
from jobs.benchmarks.quality.document.benchmarks_md import replace_section
from jobs.benchmarks.quality.document.tables import markdown_row
from jobs.benchmarks.rivals.cells import LAST_SAMPLER, Cell, stored_cells
from jobs.benchmarks.rivals.document import KEPT as RIVALS
from jobs.benchmarks.rivals.summary import lead_of
from jobs.benchmarks.rivals.tables import PLANNED, clips_of, invisible_at

BEGIN = "<!-- front page: begin; written by jobs.benchmarks.front_page -->"
END = "<!-- front page: end -->"
PAGE = Path(__file__).parents[2] / "BENCHMARKS.md"
HEADINGS = ("question", "number", "conditions and command", "what it does not say")
POINT, FEW, MANY = 21, 13, 33


def section() -> str:
    """Return the text between the marks."""
    quality = _read(QUALITY)["result"]
    rows = [_fidelity(quality), _evaluations(quality), _models(stored_cells())]
    rows += [_rivals(_read(RIVALS)), _good_clips(_read(CHOOSING_RESULTS / "good-clips.json"))]
    return "\n".join(map(markdown_row, (HEADINGS, ["---"] * len(HEADINGS), *rows)))


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def _euler(result: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    name = next(iter(result["samplers"]))
    return name.partition("/")[0], result["samplers"][name]


def _means(measured: Mapping[str, Any], point: int) -> dict[str, float]:
    """Mean PSNR to the uncached clip of every arm at a point."""
    return {
        arm["arm"]: arm["to"]["uncached"]["psnr"]["mean"]
        for arm in measured["arms"]
        if arm["wanted_nfe"] == point and "uncached" in arm.get("to", {})
    }


def _next_best(means: Mapping[str, float]) -> str:
    """The best arm beside plans and the paper's rule, with its number."""
    others = {arm: mean for arm, mean in means.items() if not arm.startswith(PLANNED)}
    best = max(others, key=lambda arm: others[arm])
    return f"{best} {others[best]:.1f} dB"


def _fidelity(result: Mapping[str, Any]) -> list[str]:
    sampler, measured = _euler(result)
    means = _means(measured, POINT)
    return [
        "How near is a planned clip to the uncached one? ([quality](docs/benchmarks/quality.md))",
        f"**{means[PLANNED]:.1f} dB** at {POINT} of 50 evaluations; the paper's rule "
        f"{means[PAPER]:.1f} dB, the next best arm {_next_best(means)}",
        f"embedded 64x64 model, {sampler}, {result['clips']} held-out clips; `quality`",
        "how good the clip is, or what a large model gives: no published decibels compare",
    ]


def _evaluations(result: Mapping[str, Any]) -> list[str]:
    sampler, measured = _euler(result)
    few, many = _means(measured, FEW), _means(measured, MANY)
    return [
        "How many evaluations does that save? ([quality](docs/benchmarks/quality.md))",
        f"a plan of **{FEW}** evaluations comes as near ({few[PLANNED]:.1f} dB) as the paper's "
        f"rule with {MANY} ({many[PAPER]:.1f} dB)",
        f"as above, {sampler}; `quality`",
        "seconds: text and decoding are not cached ([caching](docs/benchmarks/caching.md))",
    ]


def _models(cells: Sequence[Cell]) -> list[str]:
    """The lead of plans on every model, under its own sampler."""
    own = [cell for cell in cells if cell.short_sampler != LAST_SAMPLER]
    leads = [(cell, found) for cell in own if (found := lead_of(cell, POINT)) is not None]
    first = [found for _, found in leads if found[0].low > 0]
    clips = [len(clips_of(cell.result, cell.sampler, PLANNED, POINT)["psnr"]) for cell, _ in leads]
    parts = [f"{cell.title} {found[0].mean:+.1f} dB ({found[1]})" for cell, found in leads]
    return [
        "Does it hold for other models? ([rivals](docs/benchmarks/rivals.md))",
        f"at {POINT} of 50 plans are nearer than every other arm on **{len(first)} of "
        f"{len(leads)} models**, beyond the scatter: {', '.join(parts)}",
        f"small models of three architectures, each under its own sampler, {min(clips)} to "
        f"{max(clips)} held-out clips; `rivals --model-path DIR`",
        "large models: these were trained here, on CPUs, some of them not to the end",
    ]


def _rivals(written: Mapping[str, Any]) -> list[str]:
    result = written["result"]
    sampler = next(iter(result["samplers"]))
    point = POINT if POINT in result["points"] else max(result["points"])
    parts = []
    for arm in (PLANNED, "dpcache", "lemica", "cache-dit", "uniform-taylor"):
        psnr = clips_of(result, sampler, arm, point)["psnr"]
        if psnr:
            parts.append(f"{arm} {statistics.fmean(psnr):.1f} dB")
    planned = clips_of(result, sampler, PLANNED, point)
    number = f"at {point} of 50: **{', '.join(parts)}**"
    if "jod" in planned:
        number += f"; plans {statistics.fmean(planned['jod']):.2f} JOD of 10"
    if seen := invisible_at(result, sampler, PLANNED, worst=False):
        fewest = min(each["wanted"] for each in result["samplers"][sampler])
        number += f", invisible at {seen} evaluations" + (" or fewer" if seen == fewest else "")
    return [
        "And beside its nearest relatives, and to an eye? ([rivals](docs/benchmarks/rivals.md))",
        number,
        f"embedded model, {sampler.partition('/')[0]}, {len(planned['psnr'])} held-out clips; "
        "`rivals`",
        "a threshold of a measure, on clips a finger wide; no observers were asked",
    ]


def _good_clips(written: Mapping[str, Any]) -> list[str]:
    result = written["result"]
    column = list(GOOD_HEADINGS).index("CPU s a good clip")
    cost = {row[0]: row[column] for row in good_clip_cells(result)}
    return [
        "What does a good clip cost? ([choosing](docs/benchmarks/choosing.md))",
        f"**{cost['planned 17']}** CPU s with plans of 17 evaluations, {cost['uncached']} uncached",
        f"embedded model, {result['prompts']} captions, judged; `good-clips`",
        "what people would call good: the judge knows the sprites of this model only",
    ]


def main() -> int:
    """Write the numbers into BENCHMARKS.md."""
    PAGE.write_text(replace_section(PAGE.read_text(), section(), BEGIN, END))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
