"""Converged runs: clips without a noticeable discretisation error of the sampler.

They are made once per clip and kept on disk, under a key of everything that they depend on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from jobs.benchmarks.quality.denoising import (
    CONVERGED,
    ClipBatch,
    DenoisingRun,
    converged_scheduler,
)
from pipeline.dataset.versions import versions
from pipeline.engine.device import device_name
from pipeline.models.families.wan import WAN
from pipeline.requests.sample_request import SampleRequest, canonical_json, digest
from pipeline.scoring.similarity import psnr

CONVERGED_DB = 60.0
"""A run is converged if doubling its steps keeps this PSNR to it."""

FIRST_STEPS, MOST_STEPS = 100, 1600


@dataclass(frozen=True)
class ConvergedSteps:
    """How many steps a converged run takes.

    Attributes:
        steps: Steps of the solver.
        change_db: Mean PSNR between a run and one of twice the steps, by the smaller number.
        scheduler: Class name of the solver.
    """

    steps: int
    change_db: dict[str, float] = field(default_factory=dict)
    scheduler: str = ""

    @property
    def reached(self) -> bool:
        """Whether a search has found that the limit is met."""
        return self.change_db.get(str(self.steps), 0.0) >= CONVERGED_DB


@dataclass(frozen=True)
class ReferenceStore:
    """Latents of converged runs, on disk.

    Attributes:
        folder: The folder that holds them.
    """

    folder: Path

    def latents(self, batch: ClipBatch, steps: int) -> torch.Tensor:
        """Return the converged latents of a batch, from disk or else made and stored."""
        paths = [self._path(batch, request, steps) for request in batch.requests]
        if not all(path.is_file() for path in paths):
            made = batch.denoise(DenoisingRun(CONVERGED, steps)).latents.cpu()
            for path, latent in zip(paths, made, strict=True):
                partial = path.with_suffix(".part")
                save_file({"latents": latent.contiguous()}, partial)
                partial.replace(path)
        stored = [load_file(path)["latents"] for path in paths]
        return torch.stack(stored).to(batch.loop.device)

    def steps(self, batch: ClipBatch, note: Callable[[str], None]) -> ConvergedSteps:
        """Search for the number of steps of a converged run, on one batch.

        Args:
            batch: Clips to search with.
            note: Called with a line of text per number of steps.
        """
        found = self.folder / f"steps-{self._key(batch, batch.requests[0], 0)}.json"
        if found.is_file():
            return ConvergedSteps(**json.loads(found.read_text()))
        changes: dict[str, float] = {}
        steps = FIRST_STEPS
        clips = batch.decode(self.latents(batch, steps))
        while True:
            doubled = batch.decode(self.latents(batch, 2 * steps))
            change = _mean([psnr(a, b) for a, b in zip(clips, doubled, strict=True)])
            changes[str(steps)] = change
            note(f"converged reference: {steps} against {2 * steps} steps {change:.1f} dB")
            if change >= CONVERGED_DB or 2 * steps > MOST_STEPS // 2:
                break
            steps, clips = 2 * steps, doubled
        solver = converged_scheduler(
            batch.requests[0].sampler, batch.bench.model.spec.family, batch.saved
        )
        result = ConvergedSteps(steps, changes, type(solver).__name__)
        found.write_text(json.dumps(vars(result)))
        return result

    def _path(self, batch: ClipBatch, request: SampleRequest, steps: int) -> Path:
        return self.folder / f"{self._key(batch, request, steps)}.safetensors"

    def _key(self, batch: ClipBatch, request: SampleRequest, steps: int) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = [
            {**request.identity(), "num_inference_steps": steps, "sampler": CONVERGED},
            request.sampler.partition("/")[2],  # the solver uses the shift too
            request.sampler if batch.bench.model.spec.family != WAN else "",
            device_name(batch.loop.device),
            str(next(batch.loop.networks[0].parameters()).dtype),
            versions(),
        ]
        return digest(json.loads(canonical_json(parts))).hex()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
