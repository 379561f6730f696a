"""Which profile a run plans with: given, shipped, its own, or the prior, in this order.

A run has a profile of its own once it, or an earlier run into the same prefix, has made its first
clips without a cache (`pipeline.calibration.measurement`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.calibration.measurement import ChosenProfile, own_profile
from pipeline.errors import UserError
from pipeline.models.profile import OWN, PRIOR, load_profile, source_of
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage

if TYPE_CHECKING:
    from pipeline.config.cache_section import CacheConfig


def choose_profile(
    cache: CacheConfig,
    model: ResolvedModel,
    template: SampleRequest,
    storage: Storage | None,
    *,
    measure: bool = True,
) -> ChosenProfile:
    """Choose the profile of a run.

    Args:
        cache: The caching settings.
        model: The model.
        template: The run's sampling settings.
        storage: The output prefix; None where there is none.
        measure: Whether the run can measure a profile of its own.

    Raises:
        UserError: A profile was measured on another model, or `own` is asked for and cannot be.
        StorageError: A file cannot be read.
    """
    profile = load_profile(cache, model)
    if profile is None:
        return ChosenProfile()
    source = source_of(profile, model.spec)
    if source != "prior" or cache.profile == PRIOR or storage is None:
        return ChosenProfile(source, profile)
    own = own_profile(storage, template)
    if own is not None:
        return ChosenProfile(source_of(own.profile, model.spec), own.profile, own)
    if measure and cache.measure_clips != 0 and _pays(cache, template.num_inference_steps):
        return ChosenProfile("own")
    if cache.profile == OWN:
        raise UserError(
            "--cache.profile own: this prefix holds no profile, and the run cannot measure one: it "
            "needs --cache.measure-clips of at least 1, and an input of twice as many clips"
        )
    return ChosenProfile(source, profile)


def _pays(cache: CacheConfig, steps: int) -> bool:
    """Whether to measure: not by itself where a plan computes every step, whatever is measured."""
    if cache.profile == OWN or cache.measure_clips is not None or cache.policy != "planned":
        return True
    least, _ = cache.planned_nfe(steps)
    return least < steps
