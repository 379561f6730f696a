"""What the pipeline knows about a video model before it loads weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipeline.models.families.base import ModelFamily
from pipeline.models.sizes import SizeRules
from pipeline.prompts.condition_columns import MediaCondition
from pipeline.requests.sample_request import SampleRequest
from sencache.measuring import Prediction

if TYPE_CHECKING:
    from sencache import Family

STANDARD_ARGUMENTS = (
    *("height", "width", "num_frames", "num_inference_steps"),
    *("guidance_scale", "max_sequence_length"),
)
"""Arguments that every request gives to a pipeline's call."""

Sources = Mapping[str, str]
"""Where values are from, by the name of the value; `*` stands for all others."""


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """Sampling settings that the model's authors recommend.

    Attributes:
        width: Pixels.
        height: Pixels.
        num_frames: Frames.
        fps: Frames per second.
        num_inference_steps: Sampler steps.
        guidance_scale: Classifier-free guidance scale; of a model with two networks, the scale of
            the first one, which samples at high noise.
        sampler: Diffusers scheduler class name, "" for the one saved with the weights.
        flow_shift: Shift of a flow-matching schedule at the default size; None leaves the
            scheduler's own.
        max_sequence_length: Padded text length in tokens.
        negative_prompt: Default negative prompt.
        guidance_scale_2: Scale of the second network; None for a model with one.
        small_shift: For a model whose shift depends on the size: the most pixels of a small frame,
            and the shift of small frames and of larger ones. None: one shift for every size.
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
    guidance_scale_2: float | None = None
    small_shift: tuple[int, float, float] | None = None

    def shift_at(self, width: int, height: int) -> float | None:
        """Flow shift of a size, which is given in pixels."""
        if self.small_shift is None or (width, height) == (self.width, self.height):
            return self.flow_shift
        pixels, small, large = self.small_shift
        return small if width * height <= pixels else large


ConditionArguments = Callable[[Mapping[str, Any], SampleRequest], dict[str, Any]]


def as_given(media: Mapping[str, Any], request: SampleRequest) -> dict[str, Any]:
    """Media as arguments of a call that takes them as they are."""
    return dict(media)


def no_arguments(request: SampleRequest) -> dict[str, Any]:
    """Further arguments of a pipeline that takes none."""
    return {}


@dataclass(frozen=True, slots=True)
class PipelineClass:
    """A pipeline class of diffusers: what all models that are saved as this class share.

    Picklable: functions are those of modules.

    Attributes:
        name: Diffusers class name, as in `model_index.json`.
        family: Family of its networks.
        sizes: Sizes that its models can make, unless a model has rules of its own.
        defaults: Sampling settings of a model of this class that the registry does not name.
        sources: Where the defaults and the sizes are from, by name (`guidance_scale`, `multiple`);
            under `*` for all that are not named. `docs/models.md` shows them.
        text_embeddings: What its `encode_prompt` returns, under the names that its call takes.
        conditions: What clips start from besides their texts.
        condition_arguments: From the media of a request, by argument, to arguments of the call.
        prediction: What its networks predict, for the prior of a model that was never measured.
        distilled_guidance: The guidance scale is an input of the network: there is no unconditional
            branch, and no negative prompt to give to it.
        call_arguments: From a request to arguments of the call that other classes do not take.
        argument_names: Names in its call of those `STANDARD_ARGUMENTS` that it calls otherwise; ""
            for one that it does not take.
        one_prompt: A call makes one clip, even without files to start from.
        own_steps: A call makes another number of steps than it is asked for: it skips the first
            ones because it begins with a video, or samples a clip in parts.
        safety_checker: A part of it, installed apart, checks prompts and clips.
        variant: Hash of what a user's description adds to the call; part of ids.
        cache_family: How the cache reads its networks' calls, where `sencache` does not know them.
        saved_as: Other classes that `model_index.json` may name: the weights serve this one too.
    """

    name: str
    family: ModelFamily
    sizes: SizeRules
    defaults: SamplingDefaults
    sources: Sources = field(hash=False)
    text_embeddings: tuple[str, ...]
    conditions: tuple[MediaCondition, ...] = ()
    condition_arguments: ConditionArguments = as_given
    prediction: Prediction = "flow"
    distilled_guidance: bool = False
    call_arguments: Callable[[SampleRequest], dict[str, Any]] = no_arguments
    argument_names: Mapping[str, str] = field(default_factory=dict, hash=False)
    saved_as: tuple[str, ...] = ()
    one_prompt: bool = False
    own_steps: bool = False
    safety_checker: bool = False
    variant: str = ""
    cache_family: Family | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A named model: weights of a pipeline class, and how its authors sample with them.

    Attributes:
        name: Registry name, as in `--model`.
        pipeline: Class of its pipeline.
        hub_id: Hugging Face repository, "" for a model shipped inside this package, or one of which
            no revision is pinned.
        published_as: Repository of a model of which none is pinned: it runs by `--model-path`.
        revision: Commit of that repository (never a branch), or "" when it is a content hash of
            local files, computed when the model is resolved.
        licence: SPDX identifier or the licence's own name.
        dtype: Torch dtype name the weights run in on a GPU.
        defaults: Sampling settings.
        sources: Where they are from, as in `PipelineClass`.
        batch_rows: Samples per sampler call that are efficient on one device.
        profile: File name of the sensitivity profile shipped with the model, "" without one.
        vae_tiling: Decode in overlapping tiles unless a run says otherwise.
        tiles_by_need: Decode in tiles unless a run says otherwise, because whole clips of the
            default size do not fit on an 80 GB card beside the weights. Not the authors' way, so
            ids tell such clips from those decoded whole.
        two_networks: A second network takes over within a run, so its plans have no gate.
        own_sizes: Rules of this model where they differ from those of its class.
        network_shape: Some values of its transformer's configuration, by which a saved pipeline is
            recognised as one of this model's kind.
        weights_gb: Size of the weights in GB, in the types that they run in; None if not known.
        text_length: The one text length that its network can take, in tokens; None for any.
        registered: Whether `name` is a registry name. If not, it is for people: the pipeline class
            stands for it in ids, beside the revision.
    """

    name: str
    pipeline: PipelineClass
    hub_id: str
    revision: str
    licence: str
    dtype: str
    defaults: SamplingDefaults
    sources: Sources = field(hash=False)
    batch_rows: int = 1
    profile: str = ""
    vae_tiling: bool = False
    tiles_by_need: bool = False
    two_networks: bool = False
    own_sizes: SizeRules | None = None
    network_shape: Mapping[str, Any] = field(default_factory=dict, hash=False)
    weights_gb: float | None = None
    text_length: int | None = None
    registered: bool = True
    published_as: str = ""

    @property
    def family(self) -> ModelFamily:
        """Family of its networks."""
        return self.pipeline.family

    @property
    def sizes(self) -> SizeRules:
        """The sizes that it can make."""
        return self.own_sizes or self.pipeline.sizes

    @property
    def tiled(self) -> bool:
        """Whether it decodes in tiles unless a run says otherwise."""
        return self.vae_tiling or self.tiles_by_need

    @property
    def identity_name(self) -> str:
        """What stands for the model in ids and profiles, beside its revision."""
        if self.registered:
            return self.name
        return "+".join(filter(None, (self.pipeline.name, self.pipeline.variant)))

    def own_dtype(self, device: str) -> str:
        """Torch dtype name that the weights run in on a device unless a run says otherwise."""
        return self.dtype if device.startswith("cuda") else "float32"

    def other_dtype(self, dtype: str, device: str) -> str:
        """A type of the weights; "" for the one that they have anyway on the device of a run.

        Which device `auto` is, only the cluster knows. There, a type stands for itself.
        """
        return "" if device != "auto" and dtype == self.own_dtype(device) else dtype

    @property
    def conditions(self) -> tuple[MediaCondition, ...]:
        """What its clips start from besides their texts."""
        return self.pipeline.conditions


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A spec with the place of its weights in this run; small, picklable, sent to every actor.

    Attributes:
        spec: The registry entry.
        location: Hub id, local directory, or `s3://` (any fsspec) prefix of a saved pipeline.
        revision: Commit or content hash; part of every sample's identity.
        notes: What was chosen how, a line each, for a model that the registry does not name.
        parts: What a process loads: `all`, the text encoders (`text`), the rest (`clips`), which
            makes clips from encoded texts, or the denoising networks alone (`networks`).
    """

    spec: ModelSpec
    location: str
    revision: str
    parts: Literal["all", "text", "clips", "networks"] = "all"
    notes: tuple[str, ...] = ()
