"""Estimates what a clip costs in device time, from the shape of the network, and its memory.

A forward of a diffusion transformer over n tokens costs 2 n (parameters) + 4 L n^2 d floating-point
operations: every parameter once per token, and the two products of attention in each of L layers of
width d. Guidance doubles it. Seconds are operations over the device's dense bfloat16 peak times the
share of it that is reached (`MFU`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.models.engine_options import DEFAULT, EngineOptions
from pipeline.models.memory.cards import CARDS, TIGHT
from pipeline.models.memory.need import Workload, memory_need
from pipeline.models.registry import get_model
from pipeline.parallel.layout import ParallelLayout

MFU = 0.4
"""Model FLOPs utilisation: an assumption, in the range that well-tuned transformers reach."""

SPLIT_EFFICIENCY = {1: 1.0, 2: 0.95, 4: 0.9, 8: 0.8}
"""Share of the ideal speed-up that a group reaches, by its ranks: assumed, not measured."""


STEPS = 50
"""Sampler steps of an estimated clip: the default of these models."""


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """A GPU according to its data sheet.

    Attributes:
        peak_flops: Dense bfloat16 peak, operations per second.
        memory_bytes: Memory, as drivers report it.
        second: The second source that says the same peak; "" where none was found.
    """

    peak_flops: float
    memory_bytes: float
    second: str = ""


TORCHTITAN = "torchtitan/tools/utils.py of pytorch/torchtitan at 0258167"
NANOCHAT = "harness/runtime.py of karpathy/nanochat at 03880db"
"""Tables of peaks that others keep (November 2026). They cite data sheets too, and nanochat's
follows torchtitan's, so they find slips of ours and not errors of the vendor."""

DEVICES = {
    # SXM; so are H200 and A100.
    "H100": DeviceModel(989e12, CARDS["H100 80GB"] * 1e9, TORCHTITAN),
    "H100 PCIe": DeviceModel(756e12, CARDS["H100 80GB"] * 1e9, TORCHTITAN),
    "H100 NVL": DeviceModel(835e12, CARDS["H100 NVL"] * 1e9, TORCHTITAN),
    "H200": DeviceModel(989e12, CARDS["H200"] * 1e9, TORCHTITAN),
    "A100": DeviceModel(312e12, CARDS["A100 80GB"] * 1e9, TORCHTITAN),
    "A100 40GB": DeviceModel(312e12, CARDS["A100 40GB"] * 1e9, TORCHTITAN),
    "B200": DeviceModel(2250e12, CARDS["B200"] * 1e9, TORCHTITAN),
    "L40S": DeviceModel(362e12, CARDS["L40S"] * 1e9, TORCHTITAN),
    "RTX 6000 Ada": DeviceModel(364e12, CARDS["RTX 6000 Ada"] * 1e9),
    "RTX A6000": DeviceModel(155e12, CARDS["RTX A6000"] * 1e9),
    "RTX PRO 6000": DeviceModel(504e12, CARDS["RTX PRO 6000"] * 1e9),
    "RTX 5090": DeviceModel(209.5e12, CARDS["RTX 5090"] * 1e9, NANOCHAT),
    "RTX 4090": DeviceModel(165.2e12, CARDS["RTX 4090"] * 1e9, NANOCHAT),
    "RTX 3090": DeviceModel(71e12, CARDS["RTX 3090"] * 1e9, NANOCHAT),
}
"""Devices by words that must all occur in a product's name; the key with the most words wins.

Peaks are those of NVIDIA's data sheets and architecture white papers, without sparsity; none was
measured. `second` names another table that has the same number. GeForce cards add up in float32, as
matrix products of PyTorch do, at half the speed of float16; their advertised numbers are four times
these (float16 sums, sparsity)."""

SPATIAL, TEMPORAL, PATCH = 8, 4, 2
"""Compression of Wan 2.1's VAE along space and time, and its patches along space."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """The shape of a transformer.

    Attributes:
        name: Name in the model registry.
        parameters: Parameters of the transformer only.
        layers: Attention layers.
        width: Width of a token.
    """

    name: str
    parameters: float
    layers: int
    width: int


WAN_1_3B = NetworkShape("wan2.1-t2v-1.3b", 1.42e9, 30, 1536)
WAN_14B = NetworkShape("wan2.1-t2v-14b", 14.3e9, 40, 5120)
NETWORKS = {network.name: network for network in (WAN_1_3B, WAN_14B)}
"""From the published configurations of Wan 2.1."""

SIZES = {"480p": (832, 480, 81), "720p": (1280, 720, 81)}
"""Width, height, frames."""


@dataclass(frozen=True, slots=True)
class ClipCost:
    """What one clip costs on one device.

    Attributes:
        tokens: Length of the transformer's sequence.
        evaluation_s: Seconds of one network evaluation with guidance, on one device.
        fixed_s: Seconds that no cache saves: text encoding, decoding, mp4 encoding.
        video_s: Seconds of video.
    """

    tokens: int
    evaluation_s: float
    fixed_s: float
    video_s: float


def said_of_peaks(gpus: Iterable[str]) -> str:
    """Say where the peaks of some devices are from, and which of them nothing else confirms.

    Args:
        gpus: Keys of `DEVICES`.
    """
    alone = [name for name in dict.fromkeys(gpus) if not DEVICES[name].second]
    text = "peaks are dense bfloat16 figures of data sheets, compared with a second table"
    return f"{text} except for {', '.join(alone)}" if alone else text


def clip_cost(network: NetworkShape, size: str, gpu: str, fps: int = 16) -> ClipCost:
    """Estimate the cost of a clip on one device."""
    width, height, frames = SIZES[size]
    patches = (width // SPATIAL // PATCH) * (height // SPATIAL // PATCH)
    tokens = patches * (1 + (frames - 1) // TEMPORAL)
    attention = 4 * network.layers * tokens**2 * network.width
    flops = 2 * (2 * network.parameters * tokens + attention)  # guidance: two branches
    peak = DEVICES[gpu].peak_flops
    evaluation_s = flops / (peak * MFU)
    # Decoding time grows with pixels; 4 s for 832x480x81 is a guess from public timings.
    pixels = width * height * frames / (832 * 480 * 81)
    fixed_s = 1.0 + 4.0 * pixels * DEVICES["H100"].peak_flops / peak
    return ClipCost(tokens, evaluation_s, fixed_s, frames / fps)


def memory_bytes(
    network: NetworkShape, size: str, gpus: int, policy: str, options: EngineOptions = DEFAULT
) -> float:
    """Device memory of one rank in bytes, by the figures of `pipeline.models.memory`.

    Every rank holds all weights and the activations of its share of the tokens.

    Args:
        network: The model.
        size: Of the clip.
        gpus: Ranks of the group.
        policy: Of the cache.
        options: Of the engine.

    Raises:
        ValueError: The model has no figures.
    """
    need = memory_need(
        get_model(network.name),
        Workload(*SIZES[size]),
        policy,
        layout=ParallelLayout(ulysses=gpus),
        options=options,
    )
    if need is None:
        raise ValueError(f"the memory of {network.name} was not measured")
    return need.total * 1e9


def smallest_group(network: NetworkShape, size: str, gpu: str) -> int:
    """Return the smallest group of 1, 2 or 4 ranks that fits into memory; 0 if none does."""
    room = DEVICES[gpu].memory_bytes
    fitting = (r for r in (1, 2, 4) if memory_bytes(network, size, r, "planned") <= room)
    return next(fitting, 0)


def is_tight(network: NetworkShape, size: str, gpu: str, ranks: int) -> bool:
    """Say whether a group fits with so little to spare that it may fail."""
    needed = memory_bytes(network, size, ranks, "planned")
    return TIGHT * DEVICES[gpu].memory_bytes < needed <= DEVICES[gpu].memory_bytes
