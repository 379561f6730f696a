"""The profiles that come with the library, for models that nobody has measured.

How an output drifts over a run, and how an error grows until its end, is much the same from model
to model where they predict the same quantity. Each prior says on which models and clips it rests
(`metadata.basis`); ``benchmark.py prior`` makes it.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import get_args

from sencache.profiles.metadata import ProfileError
from sencache.profiles.noise_levels import Prediction
from sencache.profiles.profile import SensitivityProfile

FOLDER = "priors"


@functools.cache
def prior_profile(prediction: Prediction) -> SensitivityProfile:
    """The shipped profile for all models of a kind of prediction; the same object at every call.

    Its time is the share of noise; :func:`sencache.apply_sencache` and
    :func:`sencache.schedules.levels.plan_of_run` move it to the times of a scheduler.

    Args:
        prediction: What the network predicts
            (:func:`sencache.profiles.noise_levels.prediction_of`).

    Raises:
        ProfileError: There is no such prior.
    """
    if prediction not in get_args(Prediction):
        known = ", ".join(get_args(Prediction))
        raise ProfileError(f"there is no prior for prediction {prediction!r}, only for {known}")
    file = resources.files("sencache.profiles") / FOLDER / f"{prediction}.json"
    return SensitivityProfile.from_json(file.read_text("utf-8"), origin=f"prior {prediction}")
