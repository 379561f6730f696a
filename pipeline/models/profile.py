"""The sensitivity profile of a run's model: given by the user, or shipped with the model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.models.registry import shipped_folder
from pipeline.models.spec import ResolvedModel
from pipeline.storage.storage import locate
from sencache import SensitivityProfile

if TYPE_CHECKING:
    from pipeline.config.cache_section import CacheConfig

logger = logging.getLogger(__name__)


def load_profile(cache: CacheConfig, model: ResolvedModel) -> SensitivityProfile | None:
    """Read the sensitivity profile that the caching settings need.

    Returns:
        The profile, or None where no step can be reused.

    Raises:
        UserError: None is given nor shipped, or it was measured on another model.
        StorageError: The file cannot be read.
    """
    if not cache.to_sencache().may_reuse:
        return None
    spec = model.spec
    where = cache.profile or (str(shipped_folder(spec) / spec.profile) if spec.profile else "")
    if not where:
        raise UserError(
            f"cache.policy {cache.policy} needs a sensitivity profile and none is shipped for "
            f"{spec.name}: measure one with jobs/calibrate.py and give it as --cache.profile, or "
            "use --cache.policy none"
        )
    storage, name = locate(where)
    try:
        profile = SensitivityProfile.from_json(storage.read_bytes(name).decode(), origin=where)
        _check_profile(profile, model)
        if cache.policy == "planned" and profile.drift is None:
            raise UserError(
                f"cache.policy planned needs a profile with the drift of the output, and {where} "
                "was measured without: measure it anew with jobs/calibrate.py"
            )
    except ValueError as error:  # ProfileError, or bytes that are no text
        raise UserError(f"--cache.profile {where}: {error}") from error
    return profile


def _check_profile(profile: SensitivityProfile, model: ResolvedModel) -> None:
    """Refuse a profile of another model; warn where the revisions cannot be compared."""
    measured, mine = profile.metadata.revision, model.revision
    # A Hub commit and a content hash of files may well name the same weights; two of a kind do not.
    same_kind = len(measured) == len(mine)
    profile.check(
        model=model.spec.name,
        family=model.spec.family.name,
        revision=mine if same_kind else None,
    )
    if not same_kind:
        logger.warning(
            "the sensitivity profile was measured on revision %s, the weights are revision %s: "
            "make sure that they are the same weights",
            measured or "(none)",
            mine,
        )
