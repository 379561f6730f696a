"""The sensitivity profile of a model: given by the user, shipped with the model, or the prior.

What a run measures on its own first clips comes between the last two
(`pipeline.calibration.chosen_profile`).
"""

from __future__ import annotations

import functools
import logging
import warnings
from typing import TYPE_CHECKING

from pipeline.calibration.measurement import ProfileSource
from pipeline.errors import UserError
from pipeline.models.registry import shipped_folder
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.said_once import warn_once
from pipeline.storage.storage import locate
from pipeline.wording import called_as
from sencache import ProfileWarning, SensitivityProfile
from sencache.measuring import prior_profile

if TYPE_CHECKING:
    from pipeline.config.cache_section import CacheConfig

logger = logging.getLogger(__name__)

OWN, PRIOR = "own", "prior"
NO_FILE = (OWN, PRIOR)
"""Values of `--cache.profile` that name a source instead of a file."""


def load_profile(cache: CacheConfig, model: ResolvedModel) -> SensitivityProfile | None:
    """Read the sensitivity profile that the caching settings need.

    Returns:
        The profile; the prior where none is given or shipped; None where no step can be reused.

    Raises:
        UserError: It was measured on another model.
        StorageError: The file cannot be read.
    """
    if not cache.to_sencache().may_reuse:
        return None
    where = cache.profile or _shipped(model.spec)
    if not where or where in NO_FILE:
        return prior_profile(model.spec.pipeline.prediction)
    storage, name = locate(where)
    try:
        profile = SensitivityProfile.from_json(storage.read_bytes(name).decode(), origin=where)
        _check_profile(profile, model)
        if cache.policy == "planned" and profile.drift is None:
            raise UserError(
                f"cache.policy planned needs a profile with the drift of the output, and {where} "
                f"was measured without: measure it anew with {called_as('calibrate')}"
            )
    except ValueError as error:  # ProfileError, or bytes that are no text
        raise UserError(f"--cache.profile {where}: {error}") from error
    return profile


def source_of(profile: SensitivityProfile, spec: ModelSpec) -> ProfileSource:
    """Say where a profile comes from."""
    if profile.metadata.inputs == "prior":
        return "prior"
    if profile.metadata.inputs == "run":
        return "own"
    return "shipped" if profile.hash == _shipped_hash(_shipped(spec)) else "given"


def leave_to_driver(steps: int) -> None:
    """Keep a process that makes clips from warning of the run's number of steps.

    The driver has said it where the run began (`pipeline.requests.defaults`), and each process
    would say it again.

    Args:
        steps: Of a clip whose row says nothing else.
    """
    text = rf"profile was measured with num_inference_steps \d+ but the run has {steps}\b"
    warnings.filterwarnings("ignore", text, ProfileWarning)


def _shipped(spec: ModelSpec) -> str:
    """Path of the profile that comes with a model, "" if none does."""
    return str(shipped_folder(spec) / spec.profile) if spec.profile else ""


@functools.cache
def _shipped_hash(where: str) -> str:
    return SensitivityProfile.load(where).hash if where else ""


def _check_profile(profile: SensitivityProfile, model: ResolvedModel) -> None:
    """Refuse a profile of another model; warn where the revisions cannot be compared."""
    measured, mine = profile.metadata.revision, model.revision
    # A Hub commit and a content hash of files may well name the same weights; two of a kind do not.
    same_kind = len(measured) == len(mine)
    profile.check(
        model=model.spec.identity_name,
        family=model.spec.family.name,
        revision=mine if same_kind else None,
    )
    if not same_kind:
        warn_once(
            logger,
            f"the sensitivity profile was measured on revision {measured or '(none)'}, the weights "
            f"are revision {mine}: make sure that they are the same weights",
        )
