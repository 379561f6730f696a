"""What a user may set: one typed model, filled from a YAML file and command-line flags.

Defaults < YAML file < flags. Every field is a flag of the same dotted name in kebab case
(`max_attempts` is `--max-attempts`, `cache.policy` is `--cache.policy`). Environment variables are
not a source: a run must be readable from its command. Knows the shape and the ranges of settings
(those of the sections: `pipeline.config.sections`); whether a model, file or bucket exists is found
out by those who use it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict, SettingsError

from pipeline.config.cache_section import CacheConfig, without_overridden
from pipeline.config.help_text import (
    check_flags,
    help_text,
    parse_problem,
    validation_problem,
)
from pipeline.config.sections import (
    AutoCount,
    ConfigPart,
    Count,
    EngineConfig,
    ParallelConfig,
    SamplingConfig,
    StagesConfig,
)
from pipeline.config.yaml_file import merge, read_yaml
from pipeline.errors import UserError


class RunConfig(ConfigPart):
    """Everything that one run of `jobs/generate.py` is told."""

    prompts: str = Field(min_length=1, description="Parquet, JSONL, CSV, TSV or text file; any URI")
    output: str = Field(min_length=1, description="folder or s3://bucket/prefix of the dataset")
    model: str = Field(default="demo", min_length=1, description="name in the model registry")
    model_path: str = Field(default="", description="local folder or s3:// mirror of the weights")
    prompt_column: str = Field(
        default="prompt", min_length=1, description="column of the text; else caption or text"
    )
    limit: int | None = Field(default=None, ge=1, description="read only so many input rows")
    samples_per_prompt: Count = Field(default=1, description="clips per input row, seeds differ")
    control_fraction: float = Field(
        default=0.0, ge=0, le=1, description="share of the clips made uncached too, to compare"
    )
    replicas: AutoCount = Field(default="auto", description="model copies that work side by side")
    wait_for_gpus_s: float = Field(
        default=0.0, ge=0, description="wait for the first GPUs of a cluster that scales to zero"
    )
    batch_rows: AutoCount = Field(default="auto", description="samples per engine call")
    batches_per_task: Count = Field(
        1, description="engine calls per Ray task; more where a call takes milliseconds"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where the model runs"
    )
    dtype: Literal["", "float32", "bfloat16", "float16"] = Field(
        default="", description="weights' type; empty: the model's own"
    )
    max_attempts: Count = Field(default=3, description="tries before a sample counts as failed")
    call_deadline_s: float = Field(
        default=4 * 3600.0, gt=0, description="an engine call that takes longer has failed"
    )
    max_failed_fraction: float = Field(
        default=0.1, ge=0, le=1, description="more failed samples than this: exit code 1"
    )
    retry_failed: bool = Field(
        default=False, description="try samples again that failed in earlier runs"
    )
    dry_run: bool = Field(default=False, description="say what would run and make nothing")
    part_rows: Count = Field(default=100, description="write a Parquet part after so many rows")
    part_seconds: float = Field(default=30.0, gt=0, description="or after so many seconds")
    gpu_price_per_hour: float | None = Field(
        default=None, ge=0, description="price of a GPU hour; adds money to the progress line"
    )
    report: bool = Field(default=True, description="numbers, page and card when a run ends")
    contact_sheet: bool = Field(default=True, description="a picture with a frame of each clip")
    sampling: SamplingConfig = SamplingConfig()
    cache: CacheConfig = CacheConfig()
    parallel: ParallelConfig = ParallelConfig()
    engine: EngineConfig = EngineConfig()
    stages: StagesConfig = StagesConfig()

    def to_dict(self) -> dict[str, Any]:
        """Return every setting, defaults included, as plain JSON values in a fixed order."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return a YAML file that `--config` reads back to an equal configuration."""
        # ASCII only: PyYAML does not escape all line breaks that it reads back as spaces.
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


_SECTIONS = ("sampling", "cache", "parallel", "engine", "stages")


class _Flags(BaseSettings, RunConfig):
    """The command line: every field, and the file that holds the others."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    config: str = Field(default="", description="YAML file with any of the settings below")


def load_config(argv: Sequence[str]) -> RunConfig:
    """Read the command line and the YAML file that it names.

    `--help` prints the settings and exits with code 0.

    Raises:
        UserError: Any mistake in either, in one line that names the flag or the file and field.
    """
    if "-h" in argv or "--help" in argv:
        sys.stdout.write(help_text(_Flags))
        raise SystemExit(0)
    check_flags(argv, _Flags)
    try:
        given = CliSettingsSource[_Flags](
            _Flags,
            cli_parse_args=list(argv),
            cli_parse_none_str="null",
            cli_avoid_json=True,
            cli_exit_on_error=False,
            cli_implicit_flags=True,
            cli_kebab_case=True,
        )()
    except SettingsError as error:
        raise UserError(parse_problem(str(error))) from None
    flags = dict(given)
    path = flags.pop("config", None)
    file = {} if path is None else read_yaml(path, _SECTIONS)
    if isinstance(file.get("cache"), dict) and "cache" in flags:
        file["cache"] = without_overridden(file["cache"], flags["cache"])
    try:
        return RunConfig.model_validate(merge(file, flags))
    except ValidationError as error:
        raise UserError(validation_problem(error, RunConfig, flags, path or "")) from None
