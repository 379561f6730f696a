"""Makes `docs/models_table.md`: every video pipeline class of diffusers, and what holds for it.

    python -m tests.sencache.support.video.report docs/models_table.md

Builds a tiny pipeline of each class with random weights and runs the checks of `properties.py`. A
check that fails is in the table as a failure, and the exit code is 1.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch

from sencache.families.refusals import REFUSED_PIPELINES
from sencache.families.registry import family_of
from sencache.pipelines import networks_of
from tests.folder_table import checked, section
from tests.sencache.support.video import properties
from tests.sencache.support.video.table import (
    BROKEN,
    SUPPORTED,
    class_of,
    has_transformer,
    video_classes,
)

HEAD = """# Every video pipeline of diffusers {version}

What the caching library does on each class, checked on tiny pipelines of the real class with random
weights. `python -m tests.sencache.support.video.report docs/models_table.md` makes this page;
`tests/sencache/test_video_pipelines.py` holds the same checks, and fails when diffusers has a video
class that is not here.

| Column | What was checked |
|---|---|
| uncached | `policy="none"` and `epsilon=0` give the very bits of no cache, guided and unguided |
| planned | a budget of half the steps: the network ran exactly as often as planned, in rows |
| rows | each of four rows has the decisions of its run alone, and its latents within {same} |

`one` stands where the pipeline takes one prompt per call, `threshold` where its sampler takes more
than outputs and so allows no plans. `pipeline/models/families` lists the classes that
`jobs/generate.py` knows; the last table says what becomes of a folder of each class.

## Cached

| class | family | uncached | planned | rows |
|---|---|---|---|---|
"""


def cell(check: Callable[[str], None], name: str) -> str:
    """The outcome of a check in a word."""
    try:
        check(name)
    except AssertionError:
        return "**fails**"
    return "yes"


def row(name: str) -> str:
    """A line of the table."""
    video = SUPPORTED[name]
    family = family_of(next(iter(networks_of(properties.made(name)).values()))).name
    uncached = cell(properties.check_that_nothing_changes_without_reuse, name)
    planned = cell(properties.check_that_plans_are_kept, name)
    if not video.planned and planned == "yes":
        planned = "threshold"
    rows = "one"
    if video.most_rows > 1:
        rows = cell(properties.check_that_rows_are_their_runs_alone, name)
    return f"| {name} | {family} | {uncached} | {planned} | {rows} |"


def page() -> str:
    """The whole page."""
    lines, outcomes = [], {}
    for name in sorted(SUPPORTED):
        lines.append(row(name))
        outcomes[name] = checked(name)
        print(lines[-1], flush=True)
        for cache in (properties.made, properties.uncached):
            cache.cache_clear()
        gc.collect()
    refused = [f"| {name} | {reason} |" for name, reason in sorted(REFUSED_PIPELINES.items())]
    refused += [f"| {name} | its call fails in this version of diffusers |" for name in BROKEN]
    refused += [
        f"| {name} | its network is a U-Net, or it has none |"
        for name, cls in sorted(video_classes().items())
        if not has_transformer(cls)
    ]
    head = HEAD.format(version=diffusers.__version__, same=properties.SAME)
    classes = len({class_of(name) for name in SUPPORTED})
    tail = ["", f"{classes} classes.", "", "## Not cached", "", "| class | why |", "|---|---|"]
    return "\n".join([head + "\n".join(lines), *tail, *refused, "", section(outcomes), ""])


def main() -> int:
    """Write the page."""
    warnings.simplefilter("ignore")
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    text = page()
    Path(sys.argv[1]).write_text(text)
    return int("**fails**" in text)


if __name__ == "__main__":
    sys.exit(main())
