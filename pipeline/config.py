"""What a user may set: one typed model, filled from a YAML file and command-line flags.

Defaults < YAML file < flags. Every field is a flag of the same dotted name in kebab case
(`max_attempts` is `--max-attempts`, `cache.policy` is `--cache.policy`). Environment variables are
not a source: a run must be readable from its command. Knows the shape and the ranges of settings;
whether a model, file or bucket exists is found out by those who use it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict, SettingsError

from pipeline.cache_settings import DEFAULT_BUDGET, DEFAULT_EPSILON, settle, without_displaced
from pipeline.config_file import merge, read_yaml
from pipeline.config_text import check_flags, help_text, parse_problem, validation_problem
from pipeline.errors import UserError
from pipeline.input_row import MAX_FPS, MAX_GUIDANCE, MAX_SEED, MAX_STEPS
from pipeline.models.knobs import Attention, Offload


def _auto(value: Any) -> Any:
    if value == "auto":
        return value
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or number != float(value):
        raise ValueError('should be a whole number of at least 1, or "auto"')
    return number


AutoCount = Annotated[int | Literal["auto"], BeforeValidator(_auto)]
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes true for 1; in a YAML file it is a mistake.
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("should not be true or false")
        return value


class SamplingConfig(_Part):
    """How every clip is sampled, where its row does not say otherwise; unset: the model's own."""

    num_inference_steps: int | None = Field(
        default=None, ge=1, le=MAX_STEPS, description="sampler steps"
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=MAX_GUIDANCE,
        description="classifier-free guidance; 1 or less is off",
    )
    width: int | None = Field(default=None, ge=1, le=16_384, description="pixels")
    height: int | None = Field(default=None, ge=1, le=16_384, description="pixels")
    num_frames: int | None = Field(default=None, ge=1, le=100_000, description="frames per clip")
    fps: int | None = Field(default=None, ge=1, le=MAX_FPS, description="frames per second")
    negative_prompt: str | None = Field(default=None, description="what the clips should not show")
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="base seed; unset: derived from each prompt"
    )
    sampler: str | None = Field(default=None, min_length=1, description="diffusers scheduler class")
    flow_shift: float | None = Field(
        default=None, gt=0, le=100, description="shift of a flow schedule"
    )
    max_sequence_length: int | None = Field(
        default=None, ge=1, le=100_000, description="padded prompt length in tokens"
    )


class CacheConfig(_Part):
    """Which sampler steps the network is spared: a quality, or a budget, or an epsilon."""

    quality: Literal["", "lossless", "high", "balanced", "fast"] = Field(
        default="", description="the one knob: sets policy and budget"
    )
    policy: Literal["none", "paper", "planned"] = Field(
        default="paper", description="none: no cache; planned: exact budget"
    )
    budget: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description=f"planned: share of the steps that are computed (default {DEFAULT_BUDGET})",
    )
    order: int = Field(
        default=1,
        ge=0,
        le=3,
        description="planned: forecasts hold 0, are linear 1, quadratic 2",
    )
    repair: bool = Field(default=True, description="make up for the forecasts of a plan")
    gate: int = Field(
        default=0, ge=0, description="planned: steps that a hard clip gets more; others give one"
    )
    gate_ratio: float = Field(
        default=0.25, ge=0, description="planned: forecast error, over the expected, of hard clips"
    )
    epsilon: float | None = Field(
        default=None,
        ge=0,
        description=f"paper: largest predicted change that is reused (default {DEFAULT_EPSILON})",
    )
    max_reuse: int = Field(default=3, ge=1, description="paper: most reuses in a row")
    strict_epsilon: float = Field(
        default=0.01, ge=0, description="paper: threshold of the first steps"
    )
    strict_fraction: float = Field(
        default=0.2, ge=0, le=1, description="paper: share of steps that are first"
    )
    correct: bool = Field(default=False, description="paper: learn from each clip's own changes")
    uncond_verdict: Literal["follow", "own"] = Field(
        default="follow", description="paper: unconditional branch"
    )
    profile: str = Field(
        default="", description="sensitivity profile file; empty: shipped with the model"
    )

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: Any) -> Any:
        return settle(given) if isinstance(given, dict) else given


class ParallelConfig(_Part):
    """How many GPUs hold one copy of the model, or how many CPU ranks."""

    degree: Count = Field(default=1, description="GPUs per model copy")
    backend: Literal["auto", "xfuser", "context_parallel"] = Field(
        default="auto", description="what splits it; auto: xfuser on GPUs where it can"
    )
    ring: Count = Field(default=1, description="GPUs per ring; Ulysses over the rest of degree")
    cfg: int = Field(
        default=1, ge=1, le=2, description="2: half of the GPUs per branch of guidance"
    )
    vae: bool = Field(default=False, description="decode on all GPUs of a copy, not on one")
    cpus_per_rank: Count = Field(
        default=1, description="cores and threads of a rank without GPU; more save memory"
    )


class EngineConfig(_Part):
    """How the model runs on its GPUs."""

    attention: Attention = Field(default="auto", description="kernel of the attention")
    compile: bool = Field(default=False, description="compile the blocks with torch.compile")
    vae_tiling: bool | None = Field(
        default=None, description="decode in tiles; unset: as the model's authors do"
    )
    vae_slicing: bool = Field(default=False, description="decode a batch clip by clip")
    offload: Offload = Field(default="none", description="keep in host memory what rests")
    adapters: list[str] = Field(
        default=[], description="LoRA files, URI.safetensors[@WEIGHT], comma-separated"
    )


class StagesConfig(_Part):
    """What of the work has actors of its own."""

    text: Literal["inline", "separate"] = Field(
        default="inline", description="separate: text encoders apart from the groups"
    )
    text_replicas: Count = Field(default=1, description="copies of the text encoders")
    text_cpus: Count = Field(default=1, description="CPUs of each copy")
    text_gpus: float = Field(
        default=0.0, ge=0, le=1, description="GPU of each copy; 0: it runs on its CPUs"
    )


class RunConfig(_Part):
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
        file["cache"] = without_displaced(file["cache"], flags["cache"])
    try:
        return RunConfig.model_validate(merge(file, flags))
    except ValidationError as error:
        raise UserError(validation_problem(error, RunConfig, flags, path or "")) from None
