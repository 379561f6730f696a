"""The part of `docs/models_table.md` about `--model-path` alone, class by class.

    python -m tests.folder_table

prints it as it is where all checks hold, which `tests/pipeline/engine/test_folders.py` shows.
`python -m tests.sencache.support.video.report` runs the checks and writes what it finds.
"""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.config.sections import ParallelConfig
from pipeline.errors import UserError
from pipeline.models.catalogue.matching import spec_of
from pipeline.models.catalogue.saved_pipeline import SavedPipeline
from pipeline.models.registry import PIPELINES
from pipeline.parallel.layout import choose_layout
from tests.sencache.support.video.table import SUPPORTED, class_of, video_classes

HEAD = """## By its folder alone

`--model-path` and nothing else, on the folder of a tiny pipeline of the class, through settings,
intake and engine (`tests/folder_clips.py`).

| Column | What was checked |
|---|---|
| by its folder | how it is described, or why it is refused |
| columns | files that a row names beside its prompt; optional ones in brackets |
| clips | clips of the size that was asked for; guidance and files change them, a plan saves steps |
| resumes | the ids are the same again, and a fresh engine makes the same bits |
| split | over 2 ranks on a CPU |

| class | by its folder | columns | clips | resumes | split |
|---|---|---|---|---|---|
"""


def saved(name: str) -> SavedPipeline:
    """The index of a folder of a class."""
    parameters = inspect.signature(video_classes()[name].__init__).parameters  # type: ignore[misc]
    network = re.findall(r"\w+Transformer\w*", str(parameters["transformer"].annotation))[0]
    index = {
        "_class_name": name,
        "transformer": ["diffusers", network],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }
    return SavedPipeline("FOLDER", "FOLDER", index, {})


def line(name: str, outcome: str) -> str:
    """A row of the table.

    Args:
        name: Of the class.
        outcome: Of its check: `yes`, or a failure.
    """
    try:
        spec, _ = spec_of(saved(name))
    except UserError as error:
        reason = str(error).partition(": ")[2].partition(". If")[0]
        return f"| {name} | refused: {reason} | – | – | – | – |"
    described = "registered" if name in PIPELINES else "by its signature"
    columns = [each.column if each.required else f"({each.column})" for each in spec.conditions]
    try:
        split = choose_layout(ParallelConfig(degree=2), spec, "cpu").backend
    except UserError:
        split = "refused: not split over devices"
    shown = ", ".join(columns) or "–"
    return f"| {name} | {described} | {shown} | {outcome} | {outcome} | {split} |"


def checked(name: str) -> str:
    """The outcome of making clips by the folder of a variant and resuming, in a word."""
    from tests.folder_clips import NO_CLIPS, FolderRun, check_that_a_folder_makes_clips
    from tests.whole_pipelines import whole

    if class_of(name) in NO_CLIPS:
        return "–"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        whole(name).save_pretrained(folder, safe_serialization=True)
        try:
            check_that_a_folder_makes_clips(FolderRun(name, folder, Path(place)))
        except AssertionError:
            return "**fails**"
    return "yes"


def section(outcomes: Mapping[str, str]) -> str:
    """The whole part.

    Args:
        outcomes: From `checked`, by variant; a class is as good as the worst of its variants.
    """
    found: dict[str, str] = {}
    for name in sorted(SUPPORTED):
        outcome = outcomes.get(name, "yes")
        if found.get(class_of(name)) != "**fails**":
            found[class_of(name)] = outcome
    return HEAD + "\n".join(line(name, outcome) for name, outcome in sorted(found.items()))


if __name__ == "__main__":
    sys.stdout.write(section({}) + "\n")
