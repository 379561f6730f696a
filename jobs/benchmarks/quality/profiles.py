"""The model's sensitivity profile under the sampler that is measured, from calibration clips."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import sencache
from jobs.benchmarks.profiles.bench import Bench
from jobs.benchmarks.quality.splits import CALIBRATION, FIRST_SEED
from pipeline.calibration.measure import measure_profile
from pipeline.dataset.versions import versions
from pipeline.engine.device import device_name
from pipeline.models.registry import shipped_folder
from pipeline.models.samplers import sampler_name
from pipeline.requests.sample_request import SampleRequest, digest
from sencache import ProfileError, SensitivityProfile

GAIN_CLIPS = 4
"""Calibration clips on which the growth of errors is measured, as `jobs/calibrate.py` has it."""


def profile_for(
    bench: Bench,
    sampler: str,
    captions: Sequence[str],
    folder: Path,
    progress: Callable[[int, int], None],
) -> SensitivityProfile:
    """Return the model's shipped profile if it fits the sampler, else measure one.

    Args:
        bench: The model.
        sampler: Name as in `pipeline.models.samplers`.
        captions: Captions of the calibration clips.
        folder: Folder that keeps measured profiles.
        progress: See `sencache.calibrate`.
    """
    template = dataclasses.replace(bench.template, sampler=sampler)
    shipped = _shipped(bench, template)
    if shipped is not None:
        return shipped
    parts = [
        template.identity(),
        list(captions),
        versions(),
        device_name(bench.pipe.device),
        _measuring_code(),
        GAIN_CLIPS,
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"profile-{digest(parts).hex()}.json"
    if path.is_file():
        try:
            return SensitivityProfile.from_json(path.read_text(), origin=str(path))
        except ProfileError:
            pass  # of an older format
    with torch.no_grad():
        profile = measure_profile(
            bench.model,
            bench.pipe,
            template,
            captions,
            len(captions),
            first_seed=FIRST_SEED[CALIBRATION],
            batch_size=bench.model.spec.batch_rows,
            gain_clips=min(GAIN_CLIPS, len(captions)),
            progress=progress,
        )
    path.write_text(profile.to_json())
    return profile


def _shipped(bench: Bench, template: SampleRequest) -> SensitivityProfile | None:
    spec = bench.model.spec
    if not spec.profile:
        return None
    profile = SensitivityProfile.from_json((shipped_folder(spec) / spec.profile).read_text())
    facts = profile.metadata
    measured = (sampler_name(facts.sampler, facts.shift), facts.num_inference_steps, facts.revision)
    wanted = (template.sampler, template.num_inference_steps, bench.model.revision)
    return profile if measured == wanted else None


def _measuring_code() -> str:
    """Return a digest of the library: if it changes, profiles are measured again."""
    files = sorted(Path(sencache.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
