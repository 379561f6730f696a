"""What a recipe is: a distilled version of a model, and its authors' settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Sampling = Mapping[str, Any]
"""Settings under the names of the run's `sampling` section."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A distilled version of a model of the registry.

    A run with a recipe caches nothing: the few steps that are left are all computed.

    Attributes:
        name: As in `--recipe`; unique among the recipes of a model.
        model: Registry name of the model that was distilled.
        about: What it is, in a few words.
        sampling: Its authors' sampling settings.
        sources: Where each value is from: by the name of the setting, `adapters` or `weights`.
        adapters: LoRA files, in the form of `--engine.adapters`.
        weights: Weights that replace the model's own, in the form of `--model-path`; "" for none.
        licence: Of the distilled weights.
    """

    name: str
    model: str
    about: str
    sampling: Sampling = field(hash=False)
    sources: Mapping[str, str] = field(hash=False)
    adapters: tuple[str, ...] = ()
    weights: str = ""
    licence: str = "Apache-2.0"

    @property
    def steps(self) -> int:
        """Sampler steps."""
        sigmas = self.sampling.get("sigmas")
        return len(sigmas) if sigmas else int(self.sampling["num_inference_steps"])
