"""Fixtures about models, shared by the tests of `pipeline` and `jobs`.

Importing this module imports neither torch nor diffusers; most tests need neither.
"""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from pipeline.models.spec import ResolvedModel
    from pipeline.requests.sample_request import SampleRequest
    from pipeline.storage.storage import Storage
    from sencache import SensitivityProfile


def one_quick(names: Iterable[str]) -> list[Any]:
    """Names of models as parameters of a test, which is slow with all but the first."""
    first, *others = names
    return [first, *(pytest.param(name, marks=pytest.mark.slow) for name in others)]


TEXT_TOKENS = 24
"""Padded text length of the tiny models; CogVideoX builds it into its position table."""


@pytest.fixture
def storage() -> Storage:
    """An empty output prefix in memory."""
    from pipeline.storage.storage import Storage

    return Storage(f"memory://{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def tiny_model(shared_folder: Path) -> Callable[[str], Path]:
    """Return a function from the name of a model or pipeline class to the folder of a tiny one.

    Each model is built once for all processes of a test session and saved to disk as diffusers
    saves a real one, so tests load it through the same code as a 14B checkpoint. Tests that change
    a file must copy the folder first.
    """

    def folder(name: str) -> Path:
        made = shared_folder / "models" / name
        with FileLock(shared_folder / f"{name}.lock"):
            if not made.exists():
                _build(name, made)
        return made

    return folder


def _build(name: str, folder: Path) -> None:
    import torch

    from tests.model_builders import BUILDERS, BY_CLASS

    torch.manual_seed(0)
    torch.set_num_threads(1)  # the tensors are tiny: threads would only wait for one another
    unfinished = folder.with_name(f"{name}-{os.getpid()}")
    # safe_serialization writes safetensors, the only format that the loader accepts.
    (BUILDERS | BY_CLASS)[name]().save_pretrained(unfinished, safe_serialization=True)
    unfinished.rename(folder)


TINY_SIZE = {"width": 64, "height": 64, "num_frames": 9}
"""A size that every model of the registry can make."""


@pytest.fixture(scope="session")
def tiny_resolved(tiny_model: Callable[[str], Path]) -> Callable[[str], ResolvedModel]:
    """Return a function from a registry name to its resolved tiny model."""
    from pipeline.models.resolve import resolve_model

    return lambda name: resolve_model(name, str(tiny_model(name)))


@pytest.fixture
def request_for() -> Callable[..., SampleRequest]:
    """Return a function that makes a small request for a resolved model."""
    from pipeline.models.samplers import sampler_name
    from pipeline.requests.sample_request import SampleRequest

    def make(
        model: ResolvedModel, prompt: str = "a red circle", seed: int = 0, **changes: Any
    ) -> SampleRequest:
        own = model.spec.defaults
        fields: dict[str, Any] = {
            "prompt": prompt,
            "negative_prompt": "",
            "model": model.spec.name,
            "model_revision": model.revision,
            "sampler": sampler_name(own.sampler, own.flow_shift),
            "num_inference_steps": 5,
            "guidance_scale": 3.0,
            "fps": own.fps,
            "max_sequence_length": TEXT_TOKENS,
            "seed": seed,
            **TINY_SIZE,
        }
        return SampleRequest(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def profile() -> SensitivityProfile:
    """A profile of some Wan whose every step is equally sensitive."""
    from sencache import SensitivityProfile
    from sencache.profiles.metadata import ProfileMetadata, SensitivityPoint

    metadata = ProfileMetadata(
        model="wan2.1-t2v-1.3b",
        revision="",
        family="wan",
        sampler="UniPCMultistepScheduler",
        shift=8.0,
        num_train_timesteps=1000,
        num_inference_steps=5,
        guidance_scale=3.0,
        height=64,
        width=64,
        num_frames=9,
        dtype="float32",
        num_clips=1,
        network_evaluations=1,
    )
    points = tuple(SensitivityPoint(tau, 1.0, 0.0, 1.0, 0.0) for tau in (1.0, 0.5, 0.0))
    return SensitivityProfile(metadata, {"cond": points, "uncond": points})


def changed(profile: SensitivityProfile, **changes: Any) -> SensitivityProfile:
    """The profile with other metadata."""
    return dataclasses.replace(profile, metadata=dataclasses.replace(profile.metadata, **changes))


@pytest.fixture
def wan_profile(profile: SensitivityProfile, tmp_path: Path) -> Path:
    """A profile file that belongs to the Hub's Wan."""
    from pipeline.models.registry import MODELS

    path = tmp_path / "profile.json"
    changed(profile, revision=MODELS[profile.metadata.model].revision).save(path)
    return path
