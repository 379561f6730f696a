"""Engines of tiny models, as most tests of this folder ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.engine.diffusers_engine import (
    DiffusersEngine,
)
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import CacheIdentity, SampleRequest, canonical_json
from sencache import SensitivityProfile

Resolve = Callable[[str], ResolvedModel]
MakeRequest = Callable[..., SampleRequest]
EngineOf = Callable[[str], tuple[DiffusersEngine, ResolvedModel]]


def paper(profile: SensitivityProfile, **params: Any) -> CacheIdentity:
    settings = {"epsilon": 1e6, "strict_epsilon": 1e6, "strict_fraction": 0.2, "max_reuse": 1}
    return CacheIdentity("paper", canonical_json(settings | params), profile.hash)


def psnr(one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> float:
    error = np.mean((one.astype(np.float64) - two.astype(np.float64)) ** 2)
    return float(np.inf if error == 0 else 10 * np.log10(255**2 / error))
