"""What an engine call shows besides its frames: its last latents and, if asked, its drift."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import numpy as np
import torch

from pipeline.calibration.measurement import Measurement
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import SampleRequest
from sencache import networks_of
from sencache.extension import (
    OutputRecording,
    architecture_of,
    dtype_name,
    recorded_outputs,
    sampler_facts,
)
from sencache.measuring import ClipDrift, NoiseLevels, ProfileMetadata, prediction_of

Latents = np.ndarray[Any, np.dtype[np.float32]]


class LastLatents:
    """Keeps the latents that the sampler gave last; a step callback of diffusers' pipelines."""

    def __init__(self, mark: Callable[[str], None] | None) -> None:
        """Begin without latents.

        Args:
            mark: Called with "step" at every denoising step; None: nobody wants to know.
        """
        self._mark = mark
        self._latents: torch.Tensor | None = None

    def __call__(self, pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> Any:
        """Note a step; the latents stay on their device."""
        if self._mark is not None:
            self._mark("step")
        self._latents = kwargs.get("latents")
        return kwargs

    def per_clip(self, clips: int) -> list[Latents | None]:
        """The latents of each clip of the call, on the host; None where there are none."""
        if self._latents is None or self._latents.shape[0] != clips:
            return [None] * clips
        return list(self._latents.detach().float().cpu().numpy())


@contextmanager
def recording(
    pipe: Any, request: SampleRequest, *, guided: bool
) -> Iterator[OutputRecording | None]:
    """Record the outputs of a request that wants it; enter it after the cache is applied.

    Args:
        pipe: A diffusers pipeline.
        request: The request.
        guided: Whether its scale is one of classifier-free guidance.
    """
    if not request.records:
        yield None
        return
    scales = (request.guidance_scale, request.guidance_scale_2) if guided else (None, None)
    with recorded_outputs(pipe, *scales) as outputs:
        yield outputs


def measured(
    pipe: Any,
    model: ResolvedModel,
    request: SampleRequest,
    outputs: OutputRecording,
    latents: Latents,
) -> str:
    """Return what a recorded call measured, as text for `Clip.measurement`.

    Raises:
        ValueError: The call does not show the drift, or the sampler not its noise levels; the
            request is not to blame.
    """
    steps = request.num_inference_steps
    tau, distances = outputs.drift(steps)
    networks = list(networks_of(pipe).values())
    levels = NoiseLevels.of_scheduler(pipe.scheduler)
    metadata = ProfileMetadata(
        model=model.spec.identity_name,
        revision=model.revision,
        family=model.spec.family.name,
        num_inference_steps=steps,
        guidance_scale=request.guidance_scale,
        height=request.height,
        width=request.width,
        num_frames=request.num_frames,
        dtype=dtype_name(next(networks[0].parameters()).dtype),
        num_clips=1,
        network_evaluations=outputs.evaluations,
        versions={"torch": torch.__version__, "diffusers": diffusers.__version__},
        architecture="+".join(dict.fromkeys(architecture_of(each) for each in networks)),
        inputs="run",
        **sampler_facts(pipe.scheduler),
    )
    drift = ClipDrift.of_outputs(
        tau,
        levels.sigma_at(tau),
        distances,
        latents_rms=float(np.sqrt(np.mean(np.square(latents, dtype=np.float64)))),
        evaluations=outputs.evaluations,
    )
    return Measurement(metadata, prediction_of(pipe.scheduler), drift).to_json()
