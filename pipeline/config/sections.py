"""The sections of a run's settings: sampling, parallelism, engine and stages.

Each section declares its fields with their types, ranges and help texts.
`pipeline.config.run_config` combines them with the `cache` section
(`pipeline.config.cache_section`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from pipeline.models.catalogue.safety_checker import SafetyChecker
from pipeline.models.quantisation.quantise import Quantise
from pipeline.requests.from_row import MAX_GUIDANCE, WHOLE_NUMBERS
from pipeline.requests.seeds import MAX_SEED


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

MAX_STEPS = WHOLE_NUMBERS["num_inference_steps"][1]

Attention = Literal["auto", "sdpa", "sdpa_flash", "cudnn", "flash", "flash3"]
"""Kernels of exact attention. Kernels that quantise are left out: they would change pixels."""

Offload = Literal["none", "model", "sequential"]
"""What waits in host memory until it is needed: nothing, whole parts, or each layer."""


class ConfigPart(BaseModel):
    """A model that cannot change and refuses unknown fields and truth values for numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes true for 1; in a YAML file it is a mistake.
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("should not be true or false")
        return value


def _row_number(name: str, description: str) -> Any:
    """A field with the range that the value has in a row."""
    low, high = WHOLE_NUMBERS[name]
    return Field(default=None, ge=low, le=high, description=description)


class SamplingConfig(ConfigPart):
    """How clips are sampled, unless their row says otherwise; unset: as the model's authors do."""

    num_inference_steps: int | None = _row_number("num_inference_steps", "sampler steps")
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=MAX_GUIDANCE,
        description="classifier-free guidance; 1 or less is off",
    )
    guidance_scale_2: float | None = Field(
        default=None,
        ge=0,
        le=MAX_GUIDANCE,
        description="guidance of the second network, at low noise (wan2.2-t2v-a14b)",
    )
    width: int | None = _row_number("width", "pixels")
    height: int | None = _row_number("height", "pixels")
    num_frames: int | None = _row_number("num_frames", "frames per clip")
    fps: int | None = _row_number("fps", "frames per second")
    negative_prompt: str | None = Field(default=None, description="what the clips should not show")
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="seed of every row; unset: from each prompt"
    )
    sampler: str | None = Field(default=None, min_length=1, description="diffusers scheduler class")
    flow_shift: float | None = Field(
        default=None, gt=0, le=100, description="shift of a flow-matching schedule"
    )
    sigmas: list[float] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_STEPS,
        description="noise level of each step, comma-separated, taken as it is, without a shift",
    )
    max_sequence_length: int | None = Field(
        default=None, ge=1, le=100_000, description="tokens to which prompts are padded"
    )

    @field_validator("sigmas")
    @classmethod
    def _falling(cls, sigmas: list[float] | None) -> list[float] | None:
        levels = [1.0, *(sigmas or ()), 0.0]
        if levels[1] > 1.0 or any(low >= high for high, low in pairwise(levels[1:])):
            raise ValueError("should fall from step to step, from 1 (pure noise) towards 0")
        return sigmas


class ParallelConfig(ConfigPart):
    """How many GPUs (or CPU ranks) hold one copy of the model, and how they split it."""

    degree: Count = Field(default=1, description="GPUs per model copy")
    backend: Literal["auto", "xfuser", "context_parallel"] = Field(
        default="auto", description="library that splits it; auto: xfuser on GPUs if it can"
    )
    ring: Count = Field(default=1, description="GPUs per ring; Ulysses takes the rest of degree")
    cfg: int = Field(
        default=1, ge=1, le=2, description="2: each half of the GPUs computes a branch of guidance"
    )
    vae: bool = Field(default=False, description="decode on all GPUs of a copy instead of one")
    cpus_per_rank: Count = Field(default=1, description="cores and threads of a rank without GPU")


class EngineConfig(ConfigPart):
    """How the model runs on its GPUs."""

    attention: Attention = Field(default="auto", description="attention kernel")
    compile: bool = Field(default=False, description="compile the blocks with torch.compile")
    vae_tiling: bool | None = Field(
        default=None, description="decode in tiles; unset: as the model's authors do"
    )
    vae_slicing: bool = Field(default=True, description="decode a batch clip by clip")
    offload: Offload = Field(
        default="none", description="keep idle parts of the model in host memory"
    )
    quantize: Quantise = Field(
        default="none", description="store the network's weights in fewer bits"
    )
    safety_checker: SafetyChecker = Field(
        default="own", description="off: run a model that checks prompts and clips without it"
    )
    adapters: list[str] = Field(
        default=[], description="LoRA files, URI.safetensors[@WEIGHT], comma-separated"
    )


class StagesConfig(ConfigPart):
    """Which work runs apart from sampling: in actors of its own, or beside it."""

    text: Literal["inline", "separate"] = Field(
        default="inline", description="separate: text encoders run apart from the groups"
    )
    text_replicas: Count = Field(default=1, description="copies of the text encoders")
    text_cpus: Count = Field(default=1, description="CPUs of each copy")
    text_gpus: float = Field(
        default=0.0, ge=0, le=1, description="share of a GPU of each copy; 0: it runs on CPUs"
    )
    text_wait_s: float = Field(
        default=900.0, gt=0, description="end the run if no node has room for so long"
    )
    decode: Literal["inline", "beside"] = Field(
        default="inline", description="beside: decode a clip while the next one is sampled"
    )

    @property
    def text_needs(self) -> str:
        """What a copy needs from a node, in words."""
        gpus = f" and {self.text_gpus:g} GPU" if self.text_gpus else ""
        return f"{self.text_cpus} CPU{'s' * (self.text_cpus > 1)}{gpus}"
