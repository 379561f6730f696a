"""How the product samples a model that was trained on scenes of photographs."""

from __future__ import annotations

from dataclasses import replace

from pipeline.models.demo import DEFAULTS
from pipeline.models.families import wan
from pipeline.models.spec import ModelSpec

CAPTIONS = "captions.txt"
"""File in the saved folder that lists captions of held-out scenes, and by which it is known."""

SIZE = 96
"""Height and width of clips in pixels."""

SPEC = ModelSpec(
    name="pictures",
    pipeline=wan.TEXT_TO_VIDEO,
    hub_id="",
    revision="",
    licence="Apache-2.0",
    dtype="float32",
    defaults=replace(DEFAULTS, width=SIZE, height=SIZE),
    sources={"*": "jobs/benchmarks/demo_model/train/config.py: as it was trained"},
    batch_rows=2,
    registered=False,
)
