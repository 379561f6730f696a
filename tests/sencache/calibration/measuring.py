"""Sensitivities of a pipeline, measured on few clips."""

from __future__ import annotations

from typing import Any

from sencache import (
    SensitivityProfile,
    calibrate,
)
from sencache.families.base import Family
from tests.sencache.support.toys import (
    LINEAR,
    LinearPipe,
)


def measure(pipe: Any, **options: Any) -> SensitivityProfile:
    family: Family | None = LINEAR if isinstance(pipe, LinearPipe) else None
    settings = {"model": "toy", "seeds": range(3), "family": family, "progress": False} | options
    return calibrate(pipe, ["a cat", "a longer dog"], **settings)
