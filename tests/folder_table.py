"""The part of `docs/models_table.md` about `--model-path` alone, class by class.

    python -m tests.folder_table

prints it. Whether a class is refused is asked of the catalogue; which ones make a clip is what the
tests of the engine show.
"""

from __future__ import annotations

import inspect
import re

from pipeline.config.sections import ParallelConfig
from pipeline.errors import UserError
from pipeline.models.catalogue.matching import spec_of
from pipeline.models.catalogue.saved_pipeline import SavedPipeline
from pipeline.models.registry import MODELS, PIPELINES
from pipeline.parallel.layout import choose_layout
from tests.model_builders import BY_CLASS
from tests.pipeline.engine.test_described_classes import FRAMES
from tests.sencache.support.video.table import SUPPORTED, class_of, video_classes

HEAD = """## By its folder alone

`--model-path` and nothing else, on a folder of the class. `makes a clip`: the engine's tests make
one from a tiny saved pipeline. `described, not run`: the catalogue describes it, and no test makes
a clip of it so. `split`: over 2 ranks on a CPU.

| class | by its folder | split |
|---|---|---|
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


def line(name: str) -> str:
    """A row of the table."""
    made = {*FRAMES, *BY_CLASS, *(spec.pipeline.name for spec in MODELS.values())}
    try:
        spec, _ = spec_of(saved(name))
    except UserError as error:
        reason = str(error).partition(": ")[2].partition(". If")[0]
        return f"| {name} | refused: {reason} | – |"
    outcome = "makes a clip" if name in {class_of(each) for each in made} else "described, not run"
    outcome += "" if name in PIPELINES else ", by its signature"
    try:
        split = choose_layout(ParallelConfig(degree=2), spec, "cpu").backend
    except UserError:
        split = "refused: not split over devices"
    return f"| {name} | {outcome} | {split} |"


def section() -> str:
    """The whole part."""
    return HEAD + "\n".join(line(name) for name in sorted({class_of(each) for each in SUPPORTED}))


if __name__ == "__main__":
    print(section())
