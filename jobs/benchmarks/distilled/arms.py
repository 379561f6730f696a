"""The arms: one set of captions and seeds, sampled in several ways.

An arm's requests are made as `jobs/generate.py` makes them, from the flags that its user would set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.benchmarks.quality.splits import FIRST_SEED, HELD_OUT, demo_captions
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.models.resolve import resolve_model
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.requests.sample_request import SampleRequest

MODEL, RECIPE = "demo", "distilled-4step"
UNCACHED = "uncached"

_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    UNCACHED: {"cache": {"policy": "none"}},
    "cached 17": {"cache": {"budget": 0.34}},
    "cached 13": {"cache": {"budget": 0.26}},
    "cached 8": {"cache": {"budget": 0.16}},
    "17 steps": {"cache": {"policy": "none"}, "sampling": {"num_inference_steps": 17}},
    "8 steps": {"cache": {"policy": "none"}, "sampling": {"num_inference_steps": 8}},
    "4 steps": {"cache": {"policy": "none"}, "sampling": {"num_inference_steps": 4}},
    "distilled 4": {"recipe": RECIPE},
}
"""Settings of each arm, under their names in a YAML file. The first is what others are held to."""


@dataclass(frozen=True)
class DistilledArm:
    """One way to sample all clips.

    Attributes:
        name: Of the arm.
        config: A run's settings.
        requests: One per clip; clips of one caption are neighbours.
        seeds: Clips of each caption.
    """

    name: str
    config: RunConfig
    requests: Sequence[SampleRequest] = field(repr=False)
    seeds: int

    @property
    def branches(self) -> int:
        """Evaluations of the network per computed step of a clip."""
        return 2 if self.requests[0].guidance_scale > 1.0 else 1


def distilled_arms(captions: int, seeds: int) -> list[DistilledArm]:
    """Make the requests of all arms; arms share captions and seeds.

    Args:
        captions: How many held-out captions.
        seeds: Clips of each; at least 2, for diversity.

    Raises:
        UserError: There are fewer captions, or too few seeds.
    """
    known = demo_captions(HELD_OUT)
    if not 1 <= captions <= len(known):
        raise UserError(f"--captions {captions}: there are 1 to {len(known)}")
    if seeds < 2:
        raise UserError(f"--seeds {seeds}: diversity needs at least 2 clips of a caption")
    resolved = resolve_model(MODEL)
    arms = []
    for name, settings in _SETTINGS.items():
        config = RunConfig.model_validate({"prompts": "-", "output": "-", **settings})
        defaults = request_defaults(config, resolved)
        requests = [
            build_request({"prompt": caption, "seed": seed}, defaults, f"-:{row}")
            for row, (caption, seed) in enumerate(_clips(known[:captions], seeds))
        ]
        arms.append(DistilledArm(name, config, requests, seeds))
    return arms


def _clips(captions: Sequence[str], seeds: int) -> list[tuple[str, int]]:
    first = FIRST_SEED[HELD_OUT]
    return [
        (caption, first + number * seeds + copy)
        for number, caption in enumerate(captions)
        for copy in range(seeds)
    ]
