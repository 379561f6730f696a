"""The largest call of a run, tried when a model is loaded: too little memory shows before any clip.

Without it a run finds out after all steps of its first clip, at each attempt. What the figures of
`pipeline.models.memory` say is checked before anything is loaded; then two steps and a decode are
made at the largest size, which also compiles what is to be compiled.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.models.engine_options import EngineOptions
from pipeline.models.memory.need import MemoryNeed, Workload, filling_rows, memory_need
from pipeline.parallel.layout import ParallelLayout
from pipeline.requests.sample_request import CacheIdentity, SampleRequest

if TYPE_CHECKING:
    import torch

    from pipeline.config.run_config import RunConfig
    from pipeline.models.spec import ModelSpec, ResolvedModel

logger = logging.getLogger(__name__)

GB = 1e9
STEPS = 2

SURE = 1.05
"""A device is refused where the figures exceed its memory by this factor. They were compared with a
GPU for Wan alone; below it the trial decides."""

REMEDIES = (
    "use a GPU with more memory, a smaller --sampling.width, --sampling.height, "
    "--sampling.num-frames or --batch-rows, --engine.vae-tiling, --stages.text separate, or "
    "--engine.offload model"
)


@dataclass(frozen=True, slots=True)
class LargestCall:
    """The largest engine call of a run; picklable.

    Attributes:
        request: One of the run's requests of the largest size.
        rows: Clips in one call.
        need: What a rank needs for it; None for a model without figures.
    """

    request: SampleRequest
    rows: int
    need: MemoryNeed | None = None

    @property
    def work(self) -> Workload:
        """Its size, for people."""
        return workload(self.request, self.rows)

    def batch(self) -> list[SampleRequest]:
        """The requests of one call of two steps, uncached; LTX-Video cannot make a single one."""
        first = self.request
        tried = dataclasses.replace(
            first,
            num_inference_steps=len(first.sigmas[:STEPS]) or STEPS,
            sigmas=first.sigmas[:STEPS],
            cache=CacheIdentity(),
            records=False,
        )
        rows = 1 if first.conditions else self.rows
        return [dataclasses.replace(tried, seed=seed) for seed in range(rows)]


def workload(request: SampleRequest, rows: int) -> Workload:
    """The size of a call with requests like this one."""
    size = (request.width, request.height, request.num_frames)
    return Workload(*size, rows, request.guidance_scale > 1.0)


def largest_call(
    request: SampleRequest | None, config: RunConfig, model: ResolvedModel
) -> LargestCall | None:
    """The largest call of a run, with what a rank needs for it.

    Args:
        request: One of the run's requests of the largest size; None if there is nothing to make.
        config: The run's settings.
        model: The resolved model.
    """
    if request is None:
        return None
    engine, split, cache = config.engine, config.parallel, config.cache
    settings: dict[str, Any] = {
        "policy": cache.policy,
        "order": cache.order,
        "layout": ParallelLayout(
            ulysses=max(1, split.degree // split.cfg), cfg=split.cfg, vae=split.vae
        ),
        "options": EngineOptions(
            vae_tiling=engine.vae_tiling,
            vae_slicing=engine.vae_slicing,
            offload=engine.offload,
            quantise=engine.quantize,
            decode_beside=config.stages.decode == "beside",
        ),
        "parts": "clips" if config.stages.text == "separate" else model.parts,
    }
    if config.batch_rows == "auto":
        rows = filling_rows(model.spec, workload(request, 1), **settings)
    else:
        rows = config.batch_rows
    return LargestCall(request, rows, memory_need(model.spec, workload(request, rows), **settings))


def check_fits(call: LargestCall | None, spec: ModelSpec, memory_bytes: float, card: str) -> None:
    """Refuse a model that a device cannot hold, before anything is loaded.

    Args:
        call: The largest call of the run; None where it is not known.
        spec: The model.
        memory_bytes: Of the device.
        card: Name of the device.

    Raises:
        UserError: It needs more than the device has.
    """
    if call is None or call.need is None or call.need.total * GB <= SURE * memory_bytes:
        return
    raise UserError(
        f"{spec.name} at {call.work} needs {call.need}, and {card} has {memory_bytes / GB:.1f}: "
        f"{REMEDIES}"
    )


def device_memory(device: torch.device) -> tuple[float, str]:
    """Bytes and name of a GPU; no limit for a CPU, whose memory is not one device's."""
    import torch

    if device.type != "cuda":
        return float("inf"), "the CPU"
    found = torch.cuda.get_device_properties(device)
    return float(found.total_memory), str(found.name)


def try_largest(
    generate: Any, call: LargestCall | None, spec: ModelSpec, card: str, calls: int = 1
) -> None:
    """Make two steps and a decode at the largest size, and drop the result.

    Args:
        generate: Of the engine; called with a batch, in all ranks at once.
        call: The largest call of the run; None where it is not known.
        spec: The model.
        card: Name of the device.
        calls: Calls that may overlap.

    Raises:
        UserError: The device has too little memory for it.
    """
    import torch

    if call is None:
        return
    batch: Sequence[SampleRequest] = call.batch()
    try:
        with ThreadPoolExecutor(calls) as threads:
            list(threads.map(generate, [batch] * calls))
    except torch.OutOfMemoryError as error:
        said = f" (expected: {call.need})" if call.need else ""
        raise UserError(
            f"{spec.name} at {call.work} runs out of the memory of {card}{said}: {REMEDIES}"
        ) from error
    torch.cuda.empty_cache()
    logger.info("tried two steps and a decode at %s", call.work)
