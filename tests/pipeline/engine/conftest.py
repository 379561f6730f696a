"""Fixtures of the tests of the engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.engine.diffusers_engine import (
    DiffusersEngine,
    load_engine,
)
from pipeline.models.spec import ResolvedModel
from sencache import SensitivityProfile
from tests.pipeline.engine.loaded import EngineOf, Resolve


@pytest.fixture(scope="module")
def engine_of(tiny_resolved: Resolve, profile: SensitivityProfile) -> Iterator[EngineOf]:
    engines: dict[str, tuple[DiffusersEngine, ResolvedModel]] = {}

    def get(name: str) -> tuple[DiffusersEngine, ResolvedModel]:
        if name not in engines:
            model = tiny_resolved(name)
            engines[name] = (
                load_engine(model, device="cpu", profile_json=profile.to_json()),
                model,
            )
        return engines[name]

    yield get
    for engine, _ in engines.values():
        engine.close()
