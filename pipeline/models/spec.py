"""What the pipeline knows about a video model before it loads weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.models.families.base import ModelFamily


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """Sampling settings that the model's authors recommend.

    Attributes:
        width: Pixels.
        height: Pixels.
        num_frames: Frames.
        fps: Frames per second.
        num_inference_steps: Sampler steps.
        guidance_scale: Classifier-free guidance scale.
        sampler: Diffusers scheduler class name, "" for the one saved with the weights.
        flow_shift: Shift of a flow-matching schedule; None leaves the scheduler's own.
        max_sequence_length: Padded text length in tokens.
        negative_prompt: Default negative prompt.
    """

    width: int
    height: int
    num_frames: int
    fps: int
    num_inference_steps: int
    guidance_scale: float
    max_sequence_length: int
    sampler: str = ""
    flow_shift: float | None = None
    negative_prompt: str = ""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One entry of the registry.

    Attributes:
        name: Registry name, as in `--model`.
        hub_id: Hugging Face repository, "" for a model shipped inside this package.
        revision: Commit of that repository (never a branch), or "" when it is a content hash of
            local files, computed when the model is resolved.
        pipeline_class: Diffusers pipeline class name.
        family: Transformer family.
        licence: SPDX identifier or the licence's own name.
        dtype: Torch dtype name the weights run in on a GPU.
        size_multiple: Width and height must be multiples of this, pixels.
        frame_stride: num_frames must be 1 + k x frame_stride.
        defaults: Sampling settings.
        batch_rows: Samples per sampler call that are efficient on one device.
        profile: File name of the sensitivity profile shipped with the model, "" without one.
        vae_tiling: Decode in overlapping tiles unless a run says otherwise.
        takes_image: Every clip starts from an image.
        min_frames: Shortest clip, frames.
        two_networks: A second network takes over within a run, so its plans have no gate.
        saved_as: A second pipeline class that the weights' `model_index.json` may name.
    """

    name: str
    hub_id: str
    revision: str
    pipeline_class: str
    family: ModelFamily
    licence: str
    dtype: str
    size_multiple: int
    frame_stride: int
    defaults: SamplingDefaults
    batch_rows: int = 1
    profile: str = ""
    vae_tiling: bool = False
    takes_image: bool = False
    min_frames: int = 1
    two_networks: bool = False
    saved_as: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A spec with the place of its weights in this run; small, picklable, sent to every actor.

    Attributes:
        spec: The registry entry.
        location: Hub id, local directory, or `s3://` (any fsspec) prefix of a saved pipeline.
        revision: Commit or content hash; part of every sample's identity.
        parts: What a process loads: `all`, the text encoders (`text`), or the rest (`clips`), which
            makes clips from encoded texts.
    """

    spec: ModelSpec
    location: str
    revision: str
    parts: Literal["all", "text", "clips"] = "all"
