"""One clip to make, and what decides its sample id.

A request holds everything that a rank needs to make the clip. `SampleRequest.identity()` holds the
part that decides the pixels. Where a sample comes from and how it is executed is not part of it, so
neither can change the id. How an input row becomes a request: `pipeline.requests.from_row`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.prompts.condition_columns import ConditionFile, condition_hashes
from sencache.config import SenCacheConfig
from sencache.schedules.budget import planner_version

if TYPE_CHECKING:
    from sencache import SensitivityProfile

UNMEASURED = "pending"
"""Stands for the hash of a profile that the run has yet to measure on its own first clips."""

ID_BYTES = 10
"""A sample id is 80 bits of SHA-256; among 10^9 samples a collision has a probability of 4e-7."""


_NO_IDENTITY = (
    *("source_key", "conditions", "source", "records", "candidate", "candidates"),
    *("draft_of", "first_frames", "drafts", "sample_cache", "sample_quantisation"),
)
"""Fields of a request that do not decide pixels, or, as `conditions`, not as they are."""

_NO_JSON = ("texts", "profile_text", "_id")
"""Fields that do not travel with a request."""


@dataclass(frozen=True, slots=True)
class CacheIdentity:
    """What of a cache decides the pixels.

    It is not a `SenCacheConfig`: settings without an effect are left out, so that all settings that
    make the same clip give the same id.

    Attributes:
        policy: `none`, `paper`, ...
        params: Canonical JSON of the policy's parameters.
        profile: Content hash of the sensitivity profile, "" without one, `UNMEASURED` while the run
            has yet to measure it.
    """

    policy: str = "none"
    params: str = "{}"
    profile: str = ""

    @classmethod
    def of(cls, config: SenCacheConfig, profile: SensitivityProfile | None) -> CacheIdentity:
        """Take the identity from the library's settings.

        Without any reuse it is `CacheIdentity()`, whatever the thresholds are.

        Raises:
            ValueError: Steps may be reused but there is no profile.
        """
        params = config.identity(profile)
        policy, profile_hash = str(params.pop("policy")), str(params.pop("profile", ""))
        return cls(policy, canonical_json(params), profile_hash)

    def to_json(self) -> dict[str, str]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def settings(self, num_inference_steps: int, guidance_scale: float) -> SenCacheConfig:
        """Return library settings with this identity, for a run with these sampling settings.

        Raises:
            ValueError: This version does not know the policy or one of the parameters, or plans
                otherwise.
        """
        fields = {**json.loads(self.params), "policy": self.policy}
        known = planner_version(fields.get("budget"))
        planner = fields.pop("planner", known)
        if planner != known:
            raise ValueError(f"the clip was planned by planner {planner}; this version has {known}")
        if "row_buckets" in fields:
            fields["row_buckets"] = tuple(fields["row_buckets"])
        fields["num_inference_steps"] = num_inference_steps
        fields["guidance"] = guidance_scale > 1.0
        try:
            return SenCacheConfig(**fields)
        except TypeError as error:
            raise ValueError(f"cache parameters {self.params} are not known: {error}") from error


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Everything that a rank needs to make one clip.

    Attributes:
        prompt: Text, also the caption of the row.
        negative_prompt: Text for the unconditional branch.
        model: Registry name.
        model_revision: Commit or content hash of the weights.
        sampler: Scheduler class name and its shift, e.g. `FlowMatchEulerDiscreteScheduler/3.0`.
        num_inference_steps: Sampler steps.
        guidance_scale: Classifier-free guidance scale; 1 or less turns guidance off.
        width: Pixels.
        height: Pixels.
        num_frames: Frames.
        fps: Frames per second of the mp4 (an integer, as the models are trained with).
        max_sequence_length: Padded text length in tokens; attention may see the padding.
        seed: Seed of the initial noise.
        cache: Caching policy, parameters and profile hash.
        adapters: LoRA adapters, `uri@weight`, in order.
        dtype: Torch dtype name that the user chose, "" for the model's own.
        source_key: Place of the row, `file:row`; not part of the identity.
        control_of: Id of the cached sample whose uncached twin this is; "" for a sample of the
            dataset. It is part of the identity of controls only, so that a control has another id
            than the same uncached sample in a dataset.
        sample_cache: Of a control, the cache of its sample, so that a worker which does not have
            the sample's frames can make them again to compare. None for a sample of the dataset,
            and for a control whose sample failed. Not part of the identity.
        sample_quantisation: Of a control, `quantisation` of its sample; not part of the identity.
        conditions: The files that the clip starts from, in the order of their columns. Their
            hashes are part of the identity, under the names of the columns; their places are not.
        model_class: Stands for `model` in the identity where that is no registry name but the name
            of a folder or repository: the pipeline class.
        guidance_scale_2: Scale of the second network, which takes over at low noise. None where
            there is one network, or guidance is off; it is not part of the identity then.
        decoding: `tiled` or `whole` if the run decodes otherwise than its model does by default
            (tiles leave seams in the pixels). "" means the default and is not part of the identity.
        sigmas: Noise levels of the steps, in (0, 1] and falling, in place of the sampler's own. ()
            means the sampler's own and is not part of the identity.
        quantisation: How the network's weights are quantised. "" means not and is not part of the
            identity.
        safety_checker: `off` if the model runs without its own. "" means with it, or that it has
            none, and is not part of the identity.
        source: JSON object of the row's other columns, "" without any; not part of the identity.
        records: Whether the drift of the network's output is recorded, for the profile that a run
            measures on its own first clips. It changes no pixel and is not part of the identity.
        candidate: Which try at its clip this is, from 1; not part of the identity.
        candidates: Most tries, the first included; not part of the identity.
        draft_of: Id of the clip that this is a draft of; "" for others. Not part of the identity: a
            draft is the clip of its own settings.
        first_frames: Frames that are decoded, from the first on; 0 for all. For drafts, which are
            only scored; not part of the identity.
        drafts: JSON of the drafts that it was chosen by; not part of the identity.
        texts: Its texts as encoded by the text stage; part of neither the identity nor the JSON.
        profile_text: JSON of the profile that the cache names, where the engine was loaded before
            the run had it; part of neither the identity nor the JSON.
    """

    prompt: str
    negative_prompt: str
    model: str
    model_revision: str
    sampler: str
    num_inference_steps: int
    guidance_scale: float
    width: int
    height: int
    num_frames: int
    fps: int
    max_sequence_length: int
    seed: int
    cache: CacheIdentity = CacheIdentity()
    adapters: tuple[str, ...] = ()
    dtype: str = ""
    source_key: str = ""
    control_of: str = ""
    conditions: tuple[ConditionFile, ...] = ()
    model_class: str = ""
    guidance_scale_2: float | None = None
    decoding: str = ""
    sigmas: tuple[float, ...] = ()
    quantisation: str = ""
    safety_checker: str = ""
    source: str = ""
    records: bool = False
    candidate: int = 1
    candidates: int = 1
    draft_of: str = ""
    first_frames: int = 0
    drafts: str = ""
    sample_cache: CacheIdentity | None = None
    sample_quantisation: str = ""
    texts: bytes = dataclasses.field(default=b"", repr=False, compare=False)
    profile_text: str = dataclasses.field(default="", repr=False, compare=False)
    _id: str = dataclasses.field(default="", init=False, repr=False, compare=False)

    def identity(self) -> dict[str, Any]:
        """Return the fields that decide the pixels, as plain JSON values."""
        fields = self._fields()
        for name in _NO_IDENTITY:
            del fields[name]
        for name in ("control_of", "decoding", "sigmas", "quantisation", "safety_checker"):
            if not fields[name]:
                del fields[name]
        fields |= condition_hashes(self.conditions)
        fields["model"] = fields.pop("model_class") or self.model
        if self.guidance_scale_2 is None:
            del fields["guidance_scale_2"]
        return fields

    def identity_json(self) -> str:
        """Return the canonical JSON of `identity()`."""
        return canonical_json(self.identity())

    @property
    def pixels(self) -> int:
        """Pixels in all frames."""
        return self.width * self.height * self.num_frames

    @property
    def sample_id(self) -> str:
        """First 20 hex digits of SHA-256 over the canonical JSON of `identity()`."""
        if not self._id:  # asked for a dozen times in the life of a request
            object.__setattr__(self, "_id", digest(self.identity()).hex())
        return self._id

    def to_json(self) -> str:
        """Return the request as JSON for transport; `from_json` is the exact inverse."""
        return canonical_json(self._fields())

    def _fields(self) -> dict[str, Any]:
        # `dataclasses.asdict` makes deep copies, which would take most of the time of an intake.
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name in _NO_JSON:
            del fields[name]
        fields["cache"] = self.cache.to_json()
        if self.sample_cache is not None:
            fields["sample_cache"] = self.sample_cache.to_json()
        fields["adapters"] = list(self.adapters)
        fields["sigmas"] = list(self.sigmas)
        fields["conditions"] = [
            [file.column, file.sha256, file.at, file.seconds] for file in self.conditions
        ]
        return fields

    @classmethod
    def from_json(cls, text: str) -> SampleRequest:
        """Rebuild a request that `to_json` wrote."""
        fields = json.loads(text)
        fields["cache"] = CacheIdentity(**fields["cache"])
        if of_sample := fields.get("sample_cache"):
            fields["sample_cache"] = CacheIdentity(**of_sample)
        fields["adapters"] = tuple(fields["adapters"])
        fields["sigmas"] = tuple(fields.get("sigmas", ()))
        files = [ConditionFile(*each) for each in fields.get("conditions", ())]
        image, at = fields.pop("image", ""), fields.pop("image_at", "")
        if image:  # as it was written before there were other conditions
            files.append(ConditionFile("image", image, at))
        fields["conditions"] = tuple(files)
        return cls(**fields)


def canonical_json(value: Any) -> str:
    """Return ASCII JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> bytes:
    """Return the first `ID_BYTES` bytes of SHA-256 over the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).digest()[:ID_BYTES]
