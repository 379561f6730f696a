"""Sections about parts alone: the device, attention kernels, decoders, the largest weights."""

from __future__ import annotations

import functools
from typing import Any

import diffusers
import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from jobs.benchmarks.gpu.sections import MeasuredDevice
from jobs.benchmarks.sampling.random_weights import ARCHITECTURES
from pipeline.engine.device import installed_driver

KERNELS = {
    "auto": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
SHAPES = {"1.3b 480p": (12, 32_760), "14b 480p": (40, 32_760), "14b 720p": (40, 75_600)}
"""Heads and tokens of Wan 2.1."""

MASKED = {"hunyuan 720p": (24, 118_800 + 256)}
"""Heads and tokens of HunyuanVideo, whose attention has a mask of the text."""

Z_480P, Z_720P = (21, 60, 104), (21, 90, 160)
"""Frames, height and width of latents of 81 frames."""


def facts(bench: MeasuredDevice) -> dict[str, Any]:
    """The device, its driver, and the versions of what runs on it."""
    said: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": installed_driver(),
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    if bench.on_gpu:
        found = torch.cuda.get_device_properties(bench.device)
        said |= {
            "gpu": found.name,
            "memory_bytes": found.total_memory,
            "capability": list(torch.cuda.get_device_capability(bench.device)),
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        }
    return said


@torch.no_grad()
def attention(bench: MeasuredDevice) -> dict[str, Any]:
    """Milliseconds and TFLOP/s of each kernel, with and without a mask."""
    made: dict[str, Any] = {}
    for shapes, masked in ((SHAPES, False), (MASKED, True)):
        for name, (heads, tokens) in shapes.items():
            count = 256 if bench.tiny else tokens
            like: dict[str, Any] = {"device": bench.device, "dtype": torch.bfloat16}
            query, key, value = (torch.randn(1, heads, count, 128, **like) for _ in range(3))
            mask = None
            if masked:
                mask = torch.ones(1, 1, 1, count, dtype=torch.bool, device=bench.device)
                mask[..., -100:] = False
            for kernel, backend in KERNELS.items():
                made[f"{name} {kernel}"] = _attended(bench, query, key, value, mask, backend)
            del query, key, value
            bench.free()
    return made


def _attended(
    bench: MeasuredDevice,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    backend: SDPBackend | None,
) -> Any:
    """One kernel: the mean of two calls after a first one."""

    def call() -> torch.Tensor:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask)

    try:
        with sdpa_kernel(backend) if backend is not None else torch.no_grad():
            call()
            seconds, _ = bench.timed(call, 2)
    except RuntimeError as error:  # the kernel does not take these shapes, types or the mask
        return {"refused": str(error).split("\n")[0][:120]}
    _, heads, tokens, width = query.shape
    operations = 4 * heads * tokens**2 * width
    return {"ms": round(seconds * 1e3, 2), "tflops": round(operations / seconds / 1e12, 1)}


@torch.no_grad()
def decode(bench: MeasuredDevice) -> dict[str, Any]:
    """Wan's VAE in float32: sizes, batches, tiles, cudnn.benchmark, and the copy to the host."""
    torch.manual_seed(0)
    settings = {"base_dim": 8} if bench.tiny else {}
    with torch.device(bench.device):
        vae = diffusers.AutoencoderKLWan(**settings).eval().requires_grad_(False)
    made: dict[str, Any] = {"weights_gb": sum(each.numel() for each in vae.parameters()) * 4 / 1e9}
    for name, rows, size, options in (
        ("480p", 1, Z_480P, ""),
        ("480p again", 1, Z_480P, ""),
        ("480p batch 2 sliced", 2, Z_480P, "slicing"),
        ("720p", 1, Z_720P, ""),
        ("720p tiled", 1, Z_720P, "tiling"),
        ("480p cudnn.benchmark", 1, Z_480P, "benchmark"),
        ("480p cudnn.benchmark again", 1, Z_480P, "benchmark"),
    ):
        vae.use_slicing, vae.use_tiling = options == "slicing", options == "tiling"
        torch.backends.cudnn.benchmark = options == "benchmark"
        shape = (3, 8, 8) if bench.tiny else size
        latents = torch.randn(rows, 16, *shape, device=bench.device)
        made[name], video = bench.peaked(functools.partial(_decoded, vae, latents))
        if name == "480p again":
            made |= _copies(bench, (video[0] * 255).clamp(0, 255).to(torch.uint8))
        del latents, video
    torch.backends.cudnn.benchmark = False
    return made


def _decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    video: torch.Tensor = vae.decode(latents, return_dict=False)[0]
    return video


def _copies(bench: MeasuredDevice, pixels: torch.Tensor) -> dict[str, Any]:
    """Seconds of the copy of one clip to ordinary and to pinned memory."""
    made: dict[str, Any] = {"copy_bytes": pixels.numel()}
    made["copy pageable s"] = bench.timed(pixels.cpu)[0]
    if bench.on_gpu:
        host = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
        made["copy pinned s"] = bench.timed(lambda: host.copy_(pixels))[0]
    return made


@torch.no_grad()
def large(bench: MeasuredDevice) -> dict[str, Any]:
    """The text encoder of Wan, and one branch of 14B at 720p."""
    made = {"text": _text(bench)}
    bench.free()
    if bench.tiny:
        return made
    network = _bfloat16(
        bench, lambda: diffusers.WanTransformer3DModel(**ARCHITECTURES["wan2.1-t2v-14b"])
    )
    like: dict[str, Any] = {"device": bench.device, "dtype": torch.bfloat16}
    inputs = {
        "hidden_states": torch.randn(1, 16, *Z_720P, **like),
        "timestep": torch.full((1,), 500, device=bench.device),
        "encoder_hidden_states": torch.randn(1, 512, 4096, **like),
    }
    made["14b 720p"], _ = bench.peaked(lambda: network(**inputs, return_dict=False)[0])
    made["14b 720p again"], _ = bench.peaked(lambda: network(**inputs, return_dict=False)[0])
    return made


def _text(bench: MeasuredDevice) -> dict[str, float]:
    """UMT5-XXL on 512 tokens."""
    size = {"vocab_size": 256_384, "d_model": 4096, "d_ff": 10_240, "num_layers": 24}
    if bench.tiny:
        size = {"vocab_size": 256, "d_model": 64, "d_ff": 128, "num_layers": 1}
    settings = transformers.UMT5Config(
        **size, d_kv=64, num_heads=64, feed_forward_proj="gated-gelu"
    )
    encoder = _bfloat16(bench, lambda: transformers.UMT5EncoderModel(settings))
    ids = torch.randint(3, 200, (1, 512), device=bench.device)
    mask = torch.ones_like(ids)
    encoder(ids, mask)
    return bench.peaked(lambda: encoder(ids, mask))[0]


def _bfloat16(bench: MeasuredDevice, make: Any) -> Any:
    """A module in bfloat16, made on the device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(bench.device):
            return make().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
