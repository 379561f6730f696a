"""A loaded model for benchmarks below the engine: they need profiles and single refreshes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from jobs.benchmarks.demo_model.shapes.catalogue import description_of
from pipeline.calibration.measure import measure_profile
from pipeline.config.run_config import RunConfig
from pipeline.engine.device import pick_device
from pipeline.engine.noise import generator
from pipeline.engine.outputs import to_uint8
from pipeline.models.call import sampling_arguments, text_arguments
from pipeline.models.load import load_pipeline
from pipeline.models.resolve import resolve_model
from pipeline.models.samplers import make_scheduler, sampler_name
from pipeline.models.spec import ResolvedModel
from pipeline.requests.defaults import request_defaults
from pipeline.requests.sample_request import SampleRequest
from sencache import (
    ProfileWarning,
    SampleStats,
    SenCacheConfig,
    SensitivityProfile,
    apply_sencache,
    remove_sencache,
)

UNCACHED = SenCacheConfig(policy="none")


@dataclass(frozen=True)
class SampledClips:
    """Clips and the statistics of the cache.

    Attributes:
        frames: One array per clip, uint8 RGB of shape (num_frames, height, width, 3).
        stats: One per clip.
    """

    frames: list[np.ndarray[Any, Any]]
    stats: list[SampleStats]


@dataclass(frozen=True)
class Bench:
    """A loaded model and its default settings.

    Attributes:
        model: The model that the pipeline was loaded from.
        pipe: The pipeline, without a cache.
        template: The model's own sampling settings.
    """

    model: ResolvedModel
    pipe: Any
    template: SampleRequest

    def requests(self, captions: Sequence[str], first_seed: int) -> list[SampleRequest]:
        """Return one request per caption under the model's own settings, with rising seeds."""
        return [
            dataclasses.replace(self.template, prompt=caption, seed=first_seed + index)
            for index, caption in enumerate(captions)
        ]

    def calibrate(
        self, captions: Sequence[str], clips: int, *, first_seed: int = 0, **changes: Any
    ) -> SensitivityProfile:
        """Measure a profile; `changes` are fields of the template, or its sampler's `shift`."""
        return measure_profile(
            self.model,
            self.pipe,
            with_changes(self.template, changes),
            captions,
            clips,
            first_seed=first_seed,
            batch_size=self.model.spec.batch_rows,
        )

    def sample(
        self,
        requests: Sequence[SampleRequest],
        config: SenCacheConfig = UNCACHED,
        profile: SensitivityProfile | None = None,
    ) -> SampledClips:
        """Make clips, `batch_rows` of the model at a time."""
        frames, stats = [], []
        for batch in self.batches(requests):
            with self._cached(batch[0], config, profile) as handle:
                frames += to_uint8(self.run(batch, "pt"), batch[0])
                stats += handle.stats()
        return SampledClips(frames, stats)

    def batches(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[SampleRequest]]:
        """Divide requests into calls with the number of clips that suits the model."""
        rows = self.model.spec.batch_rows
        for start in range(0, len(requests), rows):
            yield requests[start : start + rows]

    def run(self, batch: Sequence[SampleRequest], output_type: str) -> torch.Tensor:
        """Call the pipeline as it is; return frames or latents, clips in the first dimension."""
        first, spec = batch[0], self.model.spec
        self.pipe.scheduler = make_scheduler(first.sampler, spec.family, self.pipe.scheduler.config)
        made: torch.Tensor = self.pipe(
            **text_arguments(spec, batch),
            **sampling_arguments(spec, first),
            generator=[generator(request.seed) for request in batch],
            output_type=output_type,
        ).frames
        return made

    @contextmanager
    def _cached(
        self, first: SampleRequest, config: SenCacheConfig, profile: SensitivityProfile | None
    ) -> Iterator[Any]:
        config = dataclasses.replace(config, num_inference_steps=first.num_inference_steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProfileWarning)  # transferring a profile is intended
            handle = apply_sencache(self.pipe, config, profile)
            try:
                yield handle
            finally:
                remove_sencache(self.pipe)


def load_bench(model: str, model_path: str = "", device: str = "auto") -> Bench:
    """Load a model of the registry, or one that was trained for the benchmarks.

    Args:
        model: Name in the registry; "" for whatever the path holds. A folder that
            `jobs.benchmarks.demo_model.shapes.catalogue` knows is described by that instead.
        model_path: As `resolve_model` takes it.
        device: Torch device, or `auto`.

    Raises:
        UserError: The model cannot be used.
    """
    description = description_of(model_path)
    resolved = resolve_model("" if description else model, model_path, description)
    config = RunConfig.model_validate({"prompts": "-", "output": "-", "cache": {"policy": "none"}})
    template = request_defaults(config, resolved).template
    return Bench(resolved, load_pipeline(resolved, str(pick_device(device))), template)


def with_changes(request: SampleRequest, changes: Mapping[str, Any]) -> SampleRequest:
    """Return a request with other fields; `shift` changes the flow shift of its sampler."""
    fields = dict(changes)
    if "shift" in fields:
        fields["sampler"] = sampler_name(request.sampler.partition("/")[0], fields.pop("shift"))
    return dataclasses.replace(request, **fields)
