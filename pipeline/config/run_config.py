"""The settings of a run: one typed model, filled from a YAML file and command-line flags.

Defaults < YAML file < flags. Every field is a flag of the same dotted name in kebab case
(`max_attempts` is `--max-attempts`, `cache.policy` is `--cache.policy`). Environment variables are
not a source, so that a command says everything about its run. This module checks types and ranges;
the sections are in `pipeline.config.sections` and `pipeline.config.cache_section`. Whether a model,
file or bucket exists is checked where it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict, SettingsError

from pipeline.config.cache_section import CacheConfig, without_overridden
from pipeline.config.error_text import check_flags, parse_problem, validation_problem
from pipeline.config.help_text import help_text
from pipeline.config.recipe import with_recipe
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
    """All settings of one run of `jobs/generate.py`."""

    prompts: str = Field(min_length=1, description="Parquet, JSONL, CSV, TSV or text file; any URI")
    output: str = Field(min_length=1, description="folder or s3://bucket/prefix of the dataset")
    model: str = Field(
        default="demo", description="name in the registry (--list-models); or only --model-path"
    )
    recipe: str = Field(
        default="", description="distilled version of the model, by name: its authors' settings"
    )
    model_path: str = Field(
        default="", description="folder, org/name[@revision] of the Hub, or s3:// mirror of weights"
    )
    model_spec: str = Field(
        default="", description="YAML file or module:attribute that describes the model's class"
    )
    model_name: str = Field(
        default="", description="name in rows of a model that only model_path names"
    )
    prompt_column: str = Field(
        default="prompt",
        min_length=1,
        description="column of the prompt; without it caption or text",
    )
    columns: list[str] = Field(
        default=[], description="read only these columns, comma-separated; they win over flags"
    )
    limit: int | None = Field(default=None, ge=1, description="read only so many input rows")
    samples_per_prompt: Count = Field(
        default=1, description="clips per input row, with different seeds"
    )
    control_fraction: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the clips made once more without the cache, as controls to compare",
    )
    scorers: list[str] = Field(
        default=["basic"],
        description="what scores clips: basic (no weights), none, NAME[=ARGUMENT], module:Class",
    )
    keep: str = Field(
        default="", description="a good clip's scores, in SQL, as black < 0.5 and cuts = 0"
    )
    redraw: int = Field(
        default=0, ge=0, le=100, description="further tries, by other seeds, at a clip not good"
    )
    best_of: int = Field(
        default=1, ge=1, le=64, description="drafts per clip, by other seeds; the best is finished"
    )
    draft_budget: float = Field(
        default=0.16, gt=0, le=1, description="share of the steps that a draft computes"
    )
    draft_frames: int = Field(
        default=0, ge=0, description="frames of a draft, from the first, that are scored; 0 for all"
    )
    select_by: str = Field(
        default="", description="what the best draft has most of, in SQL, as sharpness - flicker"
    )
    keep_drafts: bool = Field(
        default=False, description="store the clips of drafts too, in drafts/ of the output"
    )
    save: list[str] = Field(
        default=[],
        description="store beside each clip, for trainers: latents, text_embeds, trajectory",
    )
    replicas: AutoCount = Field(default="auto", description="model copies that work in parallel")
    wait_for_gpus_s: float = Field(
        default=0.0, ge=0, description="wait so long for the first GPUs of a cluster"
    )
    batch_rows: AutoCount = Field(default="auto", description="samples per engine call")
    batches_per_task: Count = Field(
        default=1, description="engine calls per Ray task; raise it if a call takes milliseconds"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where the model runs"
    )
    dtype: Literal["", "float32", "bfloat16", "float16"] = Field(
        default="", description="type of the weights; empty: the model's own"
    )
    max_attempts: Count = Field(default=3, description="tries before a sample counts as failed")
    call_deadline_s: float = Field(
        default=4 * 3600.0,
        gt=0,
        description="an engine call that takes longer has failed, as has one that takes 5 times "
        "the longest of its kind",
    )
    max_failed_fraction: float = Field(
        default=0.1, ge=0, le=1, description="a larger share of failed samples gives exit code 1"
    )
    max_rejected_fraction: float = Field(
        default=0.5, ge=0, le=1, description="a larger share of rejected rows gives exit code 1"
    )
    verify: bool = Field(
        default=False, description="read every clip; make missing and damaged ones again"
    )
    retry_failed: bool = Field(
        default=False, description="try samples again that failed in earlier runs"
    )
    dry_run: bool = Field(default=False, description="say what would run and make nothing")
    part_rows: Count = Field(default=100, description="rows after which a Parquet part is written")
    part_seconds: float = Field(
        default=30.0, gt=0, description="seconds after which it is written anyway"
    )
    gpu_price_per_hour: float | None = Field(
        default=None, ge=0, description="price of a GPU hour; adds the cost to the progress line"
    )
    report: bool = Field(
        default=True, description="report page, numbers and card when the run ends"
    )
    contact_sheet: bool = Field(default=True, description="picture of the run's first clips")
    sampling: SamplingConfig = SamplingConfig()
    cache: CacheConfig = CacheConfig()
    parallel: ParallelConfig = ParallelConfig()
    engine: EngineConfig = EngineConfig()
    stages: StagesConfig = StagesConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_recipe(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        default = str(cls.model_fields["model"].default)
        filled = with_recipe(given, default)
        if "model" not in filled and (filled.get("model_path") or filled.get("model_spec")):
            filled["model"] = ""  # whatever the path holds
        return filled

    def to_dict(self) -> dict[str, Any]:
        """Return every setting, defaults included, as plain JSON values in a fixed order."""
        return self.model_dump(mode="json")


_SECTIONS = ("sampling", "cache", "parallel", "engine", "stages")

HELP = {"-h", "--help", "--help-all"}
SHOWN = {
    *("config", "prompts", "output", "model", "recipe", "model_path", "prompt_column"),
    *("columns", "limit"),
    *("samples_per_prompt", "control_fraction", "scorers", "keep", "redraw"),
    *("best_of", "select_by", "save"),
    *("replicas", "batch_rows", "device"),
    *("max_failed_fraction", "max_rejected_fraction", "retry_failed", "verify", "dry_run"),
    *("gpu_price_per_hour", "report"),
    *("sampling.num_inference_steps", "sampling.guidance_scale", "sampling.negative_prompt"),
    *("sampling.width", "sampling.height", "sampling.num_frames", "sampling.fps"),
    *("sampling.seed", "sampling.sampler"),
    *("cache.quality", "cache.policy", "cache.budget", "cache.epsilon", "cache.profile"),
    *("parallel.degree", "engine.compile", "engine.offload", "engine.quantize"),
    "engine.adapters",
}
"""The settings that `--help` shows: those that people set. `--help-all` shows every field."""


class _Flags(BaseSettings, RunConfig):
    """The command line: every field, and the file that holds further settings."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    config: str = Field(default="", description="YAML file with any of the settings below")


def load_config(argv: Sequence[str]) -> RunConfig:
    """Read the command line and the YAML file that it names.

    `--help` prints the settings that people set most, `--help-all` all of them; both exit with
    code 0.

    Raises:
        UserError: Any mistake in either, in one line that names the flag or the file and field.
    """
    if not HELP.isdisjoint(argv):
        sys.stdout.write(help_text(_Flags, None if "--help-all" in argv else SHOWN))
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
