"""What the first clips of a run measure, and the profile that comes of it, as files of the prefix.

    profiles/own/{key}/chosen.json        the clips that measure
    profiles/own/{key}/{sample_id}.json   what one clip measured, or why nothing
    profiles/own/{key}.json               the profile's hash, and the clips that it rests on
    profiles/{hash}.json                  the profile

The key stands for everything of a request that the drift of the network depends on, apart from the
text and the seed. A clip's file is written before its mp4, so a stored clip has always been
measured. The profile depends on the files of the clips alone, whoever puts it together and however
often the run was killed before.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pipeline.prompts.condition_columns import CONDITION_COLUMNS
from pipeline.requests.sample_request import UNMEASURED, SampleRequest, digest
from pipeline.storage.storage import Storage
from sencache import SensitivityProfile
from sencache.measuring import (
    ClipDrift,
    Prediction,
    ProfileMetadata,
    prior_profile,
    profile_from_clips,
)

logger = logging.getLogger(__name__)

ProfileSource = Literal["", "given", "shipped", "own", "prior"]
"""Where a profile comes from: `own` is measured by runs into the same prefix, "" is no profile."""

FOLDER = "profiles"
NO_PART = ("prompt", "negative_prompt", "seed", "cache", "control_of", *CONDITION_COLUMNS)
"""Fields of an identity that a profile does not depend on."""


@dataclass(frozen=True)
class Measurement:
    """What one uncached clip measured.

    Attributes:
        metadata: How it was sampled.
        prediction: What the network predicts, which decides the prior.
        drift: Of its outputs.
    """

    metadata: ProfileMetadata
    prediction: Prediction
    drift: ClipDrift

    def to_json(self) -> str:
        """Return it as text."""
        drift = json.loads(self.drift.to_json())
        return json.dumps(
            {"metadata": asdict(self.metadata), "prediction": self.prediction, "drift": drift}
        )

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        try:
            data = json.loads(text)
            metadata = ProfileMetadata(**data["metadata"])
            drift = ClipDrift.from_json(json.dumps(data["drift"]))
            return cls(metadata, data["prediction"], drift)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a measurement: {error}") from error


@dataclass(frozen=True)
class OwnProfile:
    """The profile that runs into a prefix measured on their own first clips.

    Attributes:
        profile: With drift, gain and sensitivities.
        requests: The uncached clips that it rests on; they are rows of the dataset.
        failed: Why each of the other first clips measured nothing.
    """

    profile: SensitivityProfile
    requests: tuple[SampleRequest, ...] = ()
    failed: tuple[str, ...] = ()

    @functools.cached_property
    def _text(self) -> str:
        return self.profile.to_json()

    def settle(self, unit: Sequence[SampleRequest]) -> list[SampleRequest]:
        """Put the profile into the requests of a unit that wait for it, or lack only its text."""
        ids, settled = dict[str, str](), []
        for request in unit:
            of_sample = request.sample_cache if request.control_of else request.cache
            if of_sample is not None and of_sample.profile in (UNMEASURED, self.profile.hash):
                before, cache = request.sample_id, replace(of_sample, profile=self.profile.hash)
                own: dict[str, Any] = {"cache": cache}
                if twin := request.control_of:
                    own = {"control_of": ids.get(twin, twin), "sample_cache": cache}
                request = replace(request, profile_text=self._text, **own)
                ids[before] = request.sample_id
            settled.append(request)
        return settled


@dataclass(frozen=True)
class ChosenProfile:
    """The profile of a run.

    Attributes:
        source: Where it comes from; "" where no step can be reused.
        profile: None where no step can be reused, or the run has yet to measure it.
        own: What the prefix holds of it, where `source` is `own` and it is measured.
    """

    source: ProfileSource = ""
    profile: SensitivityProfile | None = None
    own: OwnProfile | None = None

    @property
    def is_pending(self) -> bool:
        """Whether the run makes its first clips without a cache to measure it."""
        return self.source == "own" and self.profile is None


def not_measured(reason: str) -> str:
    """The text of a clip that measured nothing, and why."""
    return json.dumps({"failed": reason})


def profile_key(request: SampleRequest) -> str:
    """Key of the profile that clips with the settings of a request measure and use."""
    fields = request.identity()
    return digest({"profile": {k: v for k, v in fields.items() if k not in NO_PART}}).hex()


def measurement_key(request: SampleRequest) -> str:
    """Name of the file with what a recorded clip measured."""
    return f"{FOLDER}/own/{profile_key(request)}/{request.sample_id}.json"


def own_profile(storage: Storage, template: SampleRequest) -> OwnProfile | None:
    """Read the profile that earlier runs measured for the settings of a request.

    Returns:
        The profile; None where there is none, or its files are damaged. What the clips measured
        then gives it once more.

    Raises:
        StorageError: The prefix cannot be read.
    """
    index = read_json(storage, _index_key(template))
    if index is None:
        return None
    try:
        profile_at = f"{FOLDER}/{index['profile']}.json"
        if not storage.exists(profile_at):
            return None
        text = storage.read_bytes(profile_at).decode()
        return OwnProfile(
            SensitivityProfile.from_json(text, origin=f"{storage.uri}/{profile_at}"),
            tuple(SampleRequest.from_json(each) for each in index["clips"]),
            tuple(index["failed"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("the profile in %s is damaged: %s", storage.uri, error)
        return None


def chosen_before(storage: Storage, template: SampleRequest) -> tuple[SampleRequest, ...]:
    """The first clips that an earlier run chose for these settings; none if it did not."""
    chosen = read_json(storage, _choice_key(template)) or {}
    try:
        return tuple(SampleRequest.from_json(each) for each in chosen.get("clips", ()))
    except (KeyError, TypeError, ValueError):
        return ()


def read_json(storage: Storage, key: str) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file, or it holds something else."""
    if not storage.exists(key):
        return None
    try:
        data = json.loads(storage.read_bytes(key))
    except ValueError:
        data = None
    if not isinstance(data, dict):
        logger.warning("%s/%s is damaged and is made anew", storage.uri, key)
        return None
    return data


def _index_key(request: SampleRequest) -> str:
    return f"{FOLDER}/own/{profile_key(request)}.json"


def _choice_key(request: SampleRequest) -> str:
    return f"{FOLDER}/own/{profile_key(request)}/chosen.json"


@dataclass(frozen=True)
class FirstClips:
    """The uncached clips that a run makes first, and what they have measured so far; picklable.

    Attributes:
        storage: The output prefix.
        requests: The clips, recorded, in the order of their ids.
        prediction: What the network predicts, if no clip can tell.
    """

    storage: Storage
    requests: tuple[SampleRequest, ...]
    prediction: Prediction

    def keep_choice(self) -> None:
        """Note which clips were chosen, so that a later run with another input knows them."""
        text = json.dumps({"clips": [request.to_json() for request in self.requests]})
        self.storage.put_bytes(_choice_key(self.requests[0]), text.encode())

    def fail(self, request: SampleRequest, reason: str) -> None:
        """Record that a clip failed, unless it has measured something."""
        key = measurement_key(request)
        if not self.storage.exists(key):
            self.storage.put_bytes(key, not_measured(reason).encode())

    def missing(self) -> list[SampleRequest]:
        """Clips that have neither measured something nor failed."""
        return [each for each in self.requests if not self.storage.exists(measurement_key(each))]

    def complete(self, *, give_up: bool = False) -> OwnProfile | None:
        """Put the profile together once every clip is measured or has failed.

        Args:
            give_up: Leave out the clips that are missing.

        Returns:
            The profile of this prefix, which another process may have put together; None while
            clips are missing.
        """
        known = own_profile(self.storage, self.requests[0])
        missing = [] if known else self.missing()
        if known or (missing and not give_up):
            return known
        measured: list[tuple[SampleRequest, Measurement]] = []
        failed = [f"{each.sample_id}: it was not made in time" for each in missing]
        for request in self.requests:
            if request in missing:
                continue
            try:
                text = self.storage.read_bytes(measurement_key(request)).decode()
                reason = json.loads(text).get("failed")
                if reason is None:
                    measured.append((request, Measurement.from_json(text)))
                    continue
            except ValueError as error:
                reason = f"its measurement cannot be read: {error}"
            failed.append(f"{request.sample_id}: {reason}")
        profile = _profile([each for _, each in measured], self.prediction)
        own = OwnProfile(profile, tuple(request for request, _ in measured), tuple(failed))
        self._write(own)
        # Of two processes that end here at the same time, both use what is stored.
        return own_profile(self.storage, self.requests[0]) or own

    def _write(self, own: OwnProfile) -> None:
        profile = own.profile
        data: dict[str, Any] = {
            "profile": profile.hash,
            "clips": [request.to_json() for request in own.requests],
            "failed": list(own.failed),
        }
        self.storage.put_bytes(f"{FOLDER}/{profile.hash}.json", profile.to_json().encode())
        if own_profile(self.storage, self.requests[0]) is None:
            key = _index_key(self.requests[0])
            self.storage.put_bytes(key, json.dumps(data).encode())


def _profile(measured: Sequence[Measurement], prediction: Prediction) -> SensitivityProfile:
    """The profile of some clips; the prior where none measured anything."""
    if not measured:
        return prior_profile(prediction)
    first = measured[0]
    metadata = replace(
        first.metadata,
        num_clips=len(measured),
        network_evaluations=sum(each.metadata.network_evaluations for each in measured),
    )
    drifts = [each.drift for each in measured]
    return profile_from_clips(drifts, prior_profile(first.prediction), metadata)
