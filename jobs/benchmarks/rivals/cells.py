"""Stored results: one file per model and sampler, in the order of the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.benchmarks.sampling.sampler_names import SHORT_NAMES

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class ShownModel:
    """A model of the tables.

    Attributes:
        title: In a few words.
        shape: What it is and how far it was trained.
    """

    title: str
    shape: str


MODELS: Mapping[str, ShownModel] = {
    "demo": ShownModel("embedded", "Wan's shape, flow matching, guidance in two calls; shipped"),
    "second": ShownModel("second", "as the embedded one; other palette, seed and depth"),
    "sprites-cogvideox": ShownModel(
        "CogVideoX's shape", "v-prediction, zero terminal SNR, one batched call"
    ),
    "sprites-ltx": ShownModel("LTX's shape", "flow matching, shift by size, one batched call"),
    "pictures": ShownModel("photographs", "Wan's shape at 96 pixels, an autoencoder of its own"),
}
"""By the label of their results, in the order of the tables; other labels follow."""

LAST_SAMPLER = "unipc"


@dataclass(frozen=True)
class Cell:
    """One model under one sampler.

    Attributes:
        label: Of the model.
        sampler: Its name in the result, as `pipeline.models.samplers` writes it.
        written: The output of `jobs/benchmark.py rivals --json`, of this sampler alone.
    """

    label: str
    sampler: str
    written: Mapping[str, Any]

    @property
    def result(self) -> Mapping[str, Any]:
        """What was measured."""
        result: Mapping[str, Any] = self.written["result"]
        return result

    @property
    def title(self) -> str:
        """The model in a few words, or its label."""
        return MODELS[self.label].title if self.label in MODELS else self.label

    @property
    def short_sampler(self) -> str:
        """The short name of the sampler's class, or its own."""
        name = self.sampler.partition("/")[0]
        return next((short for short, known in SHORT_NAMES.items() if known == name), name)

    @property
    def file_name(self) -> str:
        """Where the cell is stored."""
        return f"{self.label}-{self.short_sampler}.json"


def cells_of(written: Mapping[str, Any]) -> list[Cell]:
    """Divide a result into its samplers; those without clips are left out."""
    result = written["result"]
    label = result.get("label", result["model"])
    return [
        Cell(label, sampler, {**written, "result": {**result, "samplers": {sampler: lines}}})
        for sampler, lines in result["samplers"].items()
        if any("nfe" in each for each in lines)
    ]


def stored_cells(folder: Path = RESULTS) -> list[Cell]:
    """Read all stored results: by model, and the model's own sampler first."""
    found = [
        cell
        for path in sorted(folder.glob("*.json"))
        for cell in cells_of(json.loads(path.read_text()))
    ]
    return sorted(found, key=_order)


def _order(cell: Cell) -> tuple[int, str, bool, str]:
    labels: Sequence[str] = list(MODELS)
    place = labels.index(cell.label) if cell.label in MODELS else len(labels)
    return place, cell.label, cell.short_sampler == LAST_SAMPLER, cell.short_sampler
