"""The pipeline classes that are known, and the models that have a `--model` name.

Each is described in the file of its family, in `pipeline.models.families`. Sampling defaults are
the authors' own. Commits are those of the Hub repositories' main branch in 2026; a pinned commit is
part of every sample's identity, so a moved branch can never change a dataset.

Importing this module is cheap: it loads neither torch nor diffusers.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from pipeline.errors import UserError
from pipeline.models.spec import ModelSpec, PipelineClass

FAMILIES = ("wan", "cogvideox", "ltx", "hunyuan_video", "mochi", "skyreels_v2", "anyflow")
"""Files of `pipeline.models.families`."""

_FILES = [import_module(f"pipeline.models.families.{family}") for family in FAMILIES]

PIPELINES: dict[str, PipelineClass] = {
    known.name: known for file in _FILES for known in file.PIPELINES
}
"""The pipeline classes of diffusers that are described here, by their names."""

MODELS: dict[str, ModelSpec] = {spec.name: spec for file in _FILES for spec in file.MODELS}


ENTRY_POINTS = "sencache_pipeline.models"
"""Group of the entry points by which installed packages add models: each names a `ModelSpec`."""


def get_model(name: str) -> ModelSpec:
    """Look a model up.

    Raises:
        UserError: No model has this name; the text names the closest one and all of them.
    """
    if name in MODELS:
        return MODELS[name]
    known = all_models()
    spec = known.get(name)
    if spec is None:
        close = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"unknown model {name!r}: {hint}known models are {', '.join(known)}")
    return spec


def all_models() -> dict[str, ModelSpec]:
    """Every model by its name: those of the registry, and those that installed packages add.

    Raises:
        UserError: An entry point names something else, or a name that is taken.
    """
    found = dict(MODELS)
    for point in entry_points(group=ENTRY_POINTS):
        try:
            spec = point.load()
        except (ImportError, AttributeError) as error:
            raise UserError(f"entry point {point.name} = {point.value}: {error}") from error
        if not isinstance(spec, ModelSpec) or spec.name in found:
            raise UserError(
                f"entry point {point.name} = {point.value} of {ENTRY_POINTS} must name a "
                "ModelSpec, with a name that no other model has"
            )
        found[spec.name] = spec
    return found


def shipped_folder(spec: ModelSpec) -> Path:
    """Folder inside this package for what comes with a model: its profile, the demo's weights."""
    return Path(__file__).parent / spec.name
