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
from pipeline.config.run_config import RunConfig as Settings
from pipeline.config.run_config import load_config as load_settings
from pipeline.dataset.committed import Committed
from pipeline.dataset.schema import SCHEMA
from pipeline.engine.factory import engine_factory
from pipeline.models.profile import load_profile
from pipeline.models.registry import MODELS
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.prompts.condition_reader import ConditionReader
from pipeline.prompts.prompt_file import SourceRow
from pipeline.prompts.reader import read_source
from pipeline.requests.defaults import request_defaults
from pipeline.requests.intake import Intake
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from pipeline.storage.storage import Storage
from sencache import (
    PRESETS,
    OfficialProfile,
    SenCacheConfig,
    SensitivityProfile,
    apply_sencache,
    remove_sencache,
)
from sencache.profiles.metadata import ProfileMetadata, SensitivityPoint
from sencache.schedules.drift import OutputDrift
from tests.model_builders import BUILDERS as TINY_MODELS
from tests.pipeline.report.made import row as output_row
from tests.pipeline.report.made import write as write_dataset
from tests.sencache.support.tiny_pipelines import PIPELINES as TINY_PIPELINES
from tests.sencache.support.tiny_pipelines import fitting_profile

cache_identity = CacheIdentity.of

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
    "ConditionReader",
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
