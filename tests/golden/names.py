"""Every name of the project that the record needs; no other module here imports the project.

After a move or a rename, adapt this module and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jobs.benchmark import COMMANDS as BENCHMARKS
from jobs.benchmark import main as benchmark
from jobs.calibrate import main as calibrate
from jobs.export import main as export
from jobs.generate import main as generate
from jobs.report import main as report
from pipeline.caching import to_spec as cache_identity
from pipeline.config import RunConfig as Settings
from pipeline.config import load_config as load_settings
from pipeline.defaults import engine_factory, load_profile, request_defaults
from pipeline.images import Images
from pipeline.intake import Intake
from pipeline.models.registry import MODELS
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.request import SampleRequest
from pipeline.resume import Committed
from pipeline.schema import SCHEMA
from pipeline.source import read_source
from pipeline.source_file import SourceRow
from pipeline.storage import Storage
from sencache import (
    PRESETS,
    OfficialProfile,
    OutputDrift,
    ProfileMetadata,
    SenCacheConfig,
    SensitivityPoint,
    SensitivityProfile,
    apply_sencache,
    remove_sencache,
)
from tests.pipeline.conftest import BUILDERS as TINY_MODELS
from tests.pipeline.report.made import row as output_row
from tests.pipeline.report.made import write as write_dataset
from tests.sencache.tiny_pipelines import PIPELINES as TINY_PIPELINES
from tests.sencache.tiny_pipelines import fitting_profile

JOBS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "generate": generate,
    "calibrate": calibrate,
    "report": report,
    "export": export,
    "benchmark": benchmark,
}
"""The `main` of every job by its name."""


def requests_of(rows: Iterable[SourceRow], defaults: Any, **options: Any) -> Intake:
    """The requests of input rows as a run makes them; the rejected rows are its `rejected`."""
    return Intake(rows, defaults, Committed(), **options)


def shipped_profile() -> SensitivityProfile:
    """The profile that comes with the embedded model."""
    settings = load_settings(["--prompts=p", "--output=o"])
    profile = load_profile(settings.cache, resolve_model(settings.model))
    if profile is None:
        raise ValueError("the default cache takes a profile")
    return profile


__all__ = [
    "BENCHMARKS",
    "JOBS",
    "MODELS",
    "PRESETS",
    "SCHEMA",
    "TINY_MODELS",
    "TINY_PIPELINES",
    "Images",
    "OfficialProfile",
    "OutputDrift",
    "ProfileMetadata",
    "ResolvedModel",
    "SampleRequest",
    "SenCacheConfig",
    "SensitivityPoint",
    "SensitivityProfile",
    "Settings",
    "SourceRow",
    "Storage",
    "apply_sencache",
    "cache_identity",
    "engine_factory",
    "fitting_profile",
    "load_settings",
    "output_row",
    "read_source",
    "remove_sencache",
    "request_defaults",
    "requests_of",
    "resolve_model",
    "shipped_profile",
    "write_dataset",
]
