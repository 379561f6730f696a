from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.run_config import RunConfig
from pipeline.engine.factory import engine_factory
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from tests.e2e.services import REPOSITORY

WAN = "wan2.1-t2v-1.3b"


def config(**changes: Any) -> RunConfig:
    fields: dict[str, Any] = {"prompts": "p.txt", "output": "out", "cache": {"policy": "none"}}
    return RunConfig.model_validate(fields | changes)


def test_the_factory_is_small_and_needs_no_file(
    wan_profile: Path,
    tiny_resolved: Callable[[str], ResolvedModel],
) -> None:
    cache = {"policy": "paper", "profile": str(wan_profile)}
    factory = engine_factory(config(cache=cache), tiny_resolved(WAN), device="cpu")
    wan_profile.unlink()
    sent = pickle.dumps(factory)
    assert len(sent) < 100_000
    engine = pickle.loads(sent)()
    assert engine.group_size == 1
    engine.close()


@pytest.mark.slow
def test_a_driver_names_its_factories_without_torch() -> None:
    code = (
        "import sys\n"
        "from pipeline.config.run_config import RunConfig\n"
        "from pipeline.engine.factory import engine_factory, text_factory\n"
        "from pipeline.models.resolve import resolve_model\n"
        "config = RunConfig(prompts='p', output='o', cache={'quality': 'balanced'})\n"
        "model = resolve_model('demo')\n"
        "print(engine_factory(config, model), text_factory(config, model, 'cpu'))\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    factories, loaded = done.stdout.splitlines()
    assert "_load_engine" in factories
    assert not set(loaded.split()) & {"torch", "diffusers", "transformers"}


def test_a_split_model_is_loaded_by_a_group() -> None:
    split = config(parallel={"degree": 2}, cache={"policy": "none"}, engine={"vae_slicing": True})
    factory = engine_factory(split, resolve_model(WAN), device="cpu", threads=4)
    (load,) = factory.args  # type: ignore[attr-defined]
    assert (load.threads, load.device, load.layout.size) == (2, "cpu", 2)
    assert load.layout.backend == "context_parallel"
    assert load.options.vae_slicing
    assert load.steps == 50  # the model's own, of which the driver has said what is to be said
    assert len(pickle.dumps(factory)) < 100_000
