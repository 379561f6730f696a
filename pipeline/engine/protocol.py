"""What actors, tests and benchmarks rely on: the protocol of an engine, its clips and its errors.

Production runs use the engine of `pipeline.engine.diffusers_engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pipeline.parallel.layout import ALONE
from pipeline.requests.sample_request import SampleRequest


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of one clip.

    Attributes:
        samples: Shape (channels, samples), from -1 to 1.
        rate: Samples per second.
    """

    samples: np.ndarray[Any, np.dtype[np.float32]]
    rate: int


@dataclass(frozen=True, slots=True)
class Clip:
    """One generated clip, still in memory.

    Attributes:
        frames: uint8 array of shape (num_frames, height, width, 3), RGB; of a request with
            `first_frames` only so many.
        cache: The `cache` struct of the output row (`pipeline.dataset.struct_columns`).
        peak_memory_bytes: Peak device memory of the engine call that made it.
        text_s: Seconds of the engine call spent on text encoding, 0 if not measured.
        decode_s: Seconds of the engine call spent on decoding latents to frames.
        parallel: The `parallel` struct of the output row: how ranks shared the model.
        prompt_tokens: Tokens of the prompt before any were cut off; None if not counted.
        latents: The latents at the end of sampling, float32, to tell how far a cached clip is from
            its control; None if the engine does not know them.
        measurement: For a request that `records`, what was measured, as text
            (`pipeline.calibration.measurement`).
        sound: Its sound; None for a silent clip.
        engine_s: Seconds of the engine that it is charged with, where calls overlap; None: its
            share of its call.
        tensors: Its latents, text embeddings and trajectory, as the file that is stored
            (`pipeline.tensors.tensor_file`); None if they are not to be saved.
    """

    frames: np.ndarray[Any, np.dtype[np.uint8]]
    cache: Mapping[str, Any]
    peak_memory_bytes: int
    text_s: float = 0.0
    decode_s: float = 0.0
    parallel: Mapping[str, Any] = field(default_factory=ALONE.to_row)
    prompt_tokens: int | None = None
    latents: np.ndarray[Any, np.dtype[np.float32]] | None = None
    measurement: str = ""
    sound: Sound | None = None
    engine_s: float | None = None
    tensors: bytes | None = None


class EngineDiedError(Exception):
    """The engine is unusable; its process must end so that a fresh one takes over."""


class BadNodeError(EngineDiedError):
    """The ledger lets nothing more run on this node."""


def is_fatal(error: BaseException) -> bool:
    """Whether every later call will fail too, as after a CUDA or NCCL fault (torch 2.x)."""
    if isinstance(error, EngineDiedError):
        return True
    text = str(error)
    sticky = ("CUDA error", "CUDA driver error", "NCCL error", "cuDNN error")
    return type(error).__name__ == "AcceleratorError" or any(each in text for each in sticky)


class Engine(Protocol):
    """One loaded model, owned by one group of ranks.

    An engine knows nothing of files, ledgers or Ray. A batch holds requests that agree in
    everything but text and seed (`batch_key`), so one call of the sampler serves them all.
    """

    device_name: str
    group_size: int

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """Make one clip per request, in order.

        Raises:
            EngineDiedError: The engine is unusable.
            Exception: The whole batch failed; the caller retries row by row.
        """
        ...

    def close(self) -> None:
        """Free the device and end every process that the engine started."""
        ...


EngineFactory = Callable[[], Engine]
"""Picklable; called once inside each actor. Tests and benchmarks pass their own."""

TextEncoder = Callable[[Sequence[SampleRequest]], list[bytes]]
"""Encodes the texts of a batch; the bytes of each become `SampleRequest.texts`."""


def batch_key(request: SampleRequest) -> tuple[object, ...]:
    """Requests with equal keys can share one call of the sampler."""
    return (
        request.model,
        request.model_revision,
        request.sampler,
        request.sigmas,
        request.num_inference_steps,
        request.guidance_scale,
        request.guidance_scale_2,
        request.width,
        request.height,
        request.num_frames,
        request.first_frames,
        request.fps,  # LTX-Video scales its positions in time by it
        request.max_sequence_length,
        request.cache,
        request.adapters,
        request.dtype,
        request.quantisation,
        request.safety_checker,
        # diffusers' pipelines take one image per call, so each clip that starts from files is its
        # own batch. So is a recorded clip: its drift must not depend on the clips beside it.
        request.sample_id if request.conditions or request.records else "",
    )
