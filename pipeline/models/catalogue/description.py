"""The fields of a `--model-spec` file, with their types and what they mean."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.prompts.condition_columns import ConditionColumn
from sencache.measuring import Prediction

Constant = bool | int | float | str


class DescribedPart(BaseModel):
    """A part of a description, with no field of another name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """The fields that the file sets."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


class NetworkDescription(DescribedPart):
    """How the cache reads the calls of a network that it does not know."""

    classes: list[str] = Field(min_length=1, description="names of the transformer classes")
    contexts: dict[str, list[Literal["cond", "uncond"]]] = Field(
        default={},
        description="cache_context of the pipeline's calls, and the branches of guidance in each",
    )
    per_row: list[str] = Field(
        default=["hidden_states", "timestep", "encoder_hidden_states"],
        description="arguments of the forward that hold one item per row",
    )
    latents: str = Field(default="hidden_states", description="argument that holds the latents")


class SizesDescription(DescribedPart):
    """Sizes that the model can make; unset: as its configurations say."""

    multiple: int | None = Field(default=None, ge=1, description="of width and height, pixels")
    frame_stride: int | None = Field(default=None, ge=1, description="frames are 1 + k x this")
    min_frames: int | None = Field(default=None, ge=1, description="shortest clip, frames")
    max_frames: int | None = Field(default=None, ge=1, description="longest clip, frames")
    max_pixels: int | None = Field(default=None, ge=1, description="most pixels of a frame")


class DefaultsDescription(DescribedPart):
    """How the model is sampled unless a run says otherwise."""

    width: int | None = Field(default=None, ge=1, description="pixels")
    height: int | None = Field(default=None, ge=1, description="pixels")
    num_frames: int | None = Field(default=None, ge=1, description="frames")
    fps: int | None = Field(default=None, ge=1, description="frames per second")
    num_inference_steps: int | None = Field(default=None, ge=1, description="sampler steps")
    guidance_scale: float | None = Field(default=None, ge=0, description="1 or less is off")
    guidance_scale_2: float | None = Field(default=None, ge=0, description="of a second network")
    max_sequence_length: int | None = Field(default=None, ge=1, description="tokens of a prompt")
    sampler: str | None = Field(default=None, description="diffusers scheduler class")
    flow_shift: float | None = Field(default=None, gt=0, description="of a flow-matching schedule")
    negative_prompt: str | None = Field(default=None, description="what clips should not show")


class ConditionDescription(DescribedPart):
    """A column of files that the call takes."""

    column: ConditionColumn = Field(description="of the prompts file")
    argument: str = Field(default="", description="name in the call; the column's if empty")
    required: bool = Field(default=True, description="whether every clip needs it")


class ModelDescription(DescribedPart):
    """A model in a `--model-spec` file; every field but `pipeline` can be left out."""

    pipeline: str = Field(
        min_length=1, description="class of diffusers, or module:Class of an installed package"
    )
    like: str | None = Field(
        default=None, description="known class that says all that this file does not"
    )
    name: str | None = Field(default=None, min_length=1, description="name in rows")
    licence: str | None = Field(default=None, description="SPDX identifier or own name")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None, description="type of the weights on a GPU"
    )
    vae_tiling: bool | None = Field(default=None, description="decode in overlapping tiles")
    conditions: list[ConditionColumn | ConditionDescription] | None = Field(
        default=None, description="columns of files that clips start from besides their texts"
    )
    prediction: Prediction | None = Field(default=None, description="what the network predicts")
    distilled_guidance: bool | None = Field(
        default=None, description="the guidance scale is an input of the network"
    )
    samplers: list[str] | None = Field(
        default=None, min_length=1, description="schedulers that serve the network"
    )
    text_embeddings: list[str] | None = Field(
        default=None, description="what encode_prompt returns, by the call's argument names"
    )
    argument_names: dict[str, str] = Field(
        default={}, description='names in the call of standard arguments; "" for one it lacks'
    )
    call: dict[str, Constant] = Field(default={}, description="further arguments of the call")
    network: NetworkDescription | None = Field(default=None)
    sizes: SizesDescription = SizesDescription()
    defaults: DefaultsDescription = DefaultsDescription()
