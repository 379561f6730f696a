"""The shapes by name, and how to tell saved models that the registry does not know."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.benchmarks.demo_model.pictures import spec
from jobs.benchmarks.demo_model.shapes import autoencoder
from jobs.benchmarks.demo_model.shapes.base import ModelShape
from jobs.benchmarks.demo_model.shapes.cogvideox import CogVideoXShape
from jobs.benchmarks.demo_model.shapes.ltx import LTXShape
from pipeline.models.catalogue.saved_pipeline import INDEX

SHAPES: dict[str, type[ModelShape]] = {shape.name: shape for shape in (CogVideoXShape, LTXShape)}

SPRITE_MODELS = ("demo", *(shape.spec.name for shape in SHAPES.values()))
"""Models that were trained on the captions of the sprite world, by the names of their specs."""


def description_of(folder: str) -> str:
    """Return the `--model-spec` of a saved model of one of the shapes or of pictures.

    It is "" for anything else.

    Args:
        folder: A folder; whatever else a `--model-path` may be is none of the shapes.
    """
    index = Path(folder) / INDEX
    if not folder or not index.is_file():
        return ""
    if (index.parent / spec.CAPTIONS).is_file():
        return f"{spec.__name__}:SPEC"
    saved = json.loads(index.read_text(encoding="utf-8"))
    own = [autoencoder.__name__, autoencoder.SpriteAutoencoder.__name__]
    if saved.get("vae") != own:
        return ""
    for shape in SHAPES.values():
        if shape.spec.pipeline.name == saved["_class_name"]:
            return f"{shape.__module__}:SPEC"
    return ""
