"""Measures the figures of `pipeline/models/memory/figures.json`, model by model."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers

from jobs.benchmarks.memory.architectures import PARTS, VISION, ModelParts, latent_size
from jobs.benchmarks.memory.fake_peaks import cast, fake_tensors, peak_bytes, weight_bytes
from pipeline.models.spec import ModelSpec

Size = tuple[int, int, int]
"""Width, height, frames."""

FEW_LAYERS = 2

_TILED = {"hunyuan_video": (2.4, 16)}
"""By family: size of all tiles of a clip over that of the clip, and frames of a tile where time is
cut too. Tiles of 256 pixels at strides of 192 hold 1.78 times the clip."""


def measured(spec: ModelSpec) -> dict[str, Any]:
    """The figures of one model, in bytes: of parts, per row and token, per pixel and frame."""
    parts, own = PARTS[spec.name], spec.defaults
    default = (own.width, own.height, own.num_frames)
    small = (own.width // 2 // 32 * 32, own.height // 2 // 32 * 32, _shorter(spec))
    dtypes = _dtypes(spec)
    with fake_tensors():
        network = _network(parts, dtypes)
        channels = int(network.config.in_channels)
        time, space = _token_stride(spec)
        peaks = [_sampling_peak(spec, parts, network, size) for size in (small, default)]
        counts = [_tokens(spec, size) for size in (small, default)]
        per_token = (peaks[1] - peaks[0]) / (counts[1] - counts[0])
        vae, kind = _vae(parts, dtypes), dtypes.get("vae", dtypes["default"])
        decode = _decode_line(spec, vae, kind)
        whole = _whole_network(parts, dtypes)
        weights = {"networks": parts.networks * weight_bytes(whole), "vae": weight_bytes(vae)}
        texts = [_text_encoder(each, dtypes) for each in parts.texts]
        weights["text"] = sum(weight_bytes(each) for each in texts)
        ids = (1, own.max_sequence_length)
        text = peak_bytes(texts[0], lambda: texts[0](torch.zeros(ids, dtype=torch.long)))
        if parts.image_encoder:
            vision = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION))
            weights["image"] = weight_bytes(vision)
    overlap, tile_frames = _TILED.get(spec.family.name, (1.78, 0))
    return {
        "weights": weights,
        "networks": parts.networks,
        "guidance_rows": parts.guidance_rows,
        "distilled": spec.pipeline.distilled_guidance,
        "token_stride": [time, space],
        "latent_values": _latent_values(spec, min(channels, _latent_channels(vae))),
        "width": network.config.num_attention_heads * network.config.attention_head_dim,
        "sampling": [round(peaks[1] - per_token * counts[1]), round(per_token, 1)],
        "decode": [*decode, torch.empty(0, dtype=kind).element_size()],
        "tile_overlap": overlap,
        "tile_frames": tile_frames,
        "text_row": text,
    }


def sampling_peak(spec: ModelSpec, size: Size) -> int:
    """Peak of one network call for one row, above the weights, in bytes."""
    with fake_tensors():
        network = _network(PARTS[spec.name], _dtypes(spec))
        return _sampling_peak(spec, PARTS[spec.name], network, size)


def decode_peak(spec: ModelSpec, size: Size, *, tiled: bool = False) -> int:
    """Peak of decoding one clip, above the weights, in bytes."""
    dtypes = _dtypes(spec)
    kind = dtypes.get("vae", dtypes["default"])
    with fake_tensors():
        vae = _vae(PARTS[spec.name], dtypes)
        if tiled:
            vae.enable_tiling()
        return _decode_peak(spec, vae, kind, size)


def _dtypes(spec: ModelSpec) -> dict[str, torch.dtype]:
    names = spec.family.precision(spec.dtype)
    return {part: getattr(torch, name) for part, name in names.items()}


def _network(parts: ModelParts, dtypes: dict[str, torch.dtype]) -> Any:
    """The transformer with few layers: a forward's peak does not grow with their number."""
    few = dict.fromkeys(parts.layers, FEW_LAYERS)
    return _cast_network(parts, dtypes, {**parts.settings, **few})


def _whole_network(parts: ModelParts, dtypes: dict[str, torch.dtype]) -> Any:
    return _cast_network(parts, dtypes, dict(parts.settings))


def _cast_network(
    parts: ModelParts, dtypes: dict[str, torch.dtype], settings: dict[str, Any]
) -> Any:
    network = getattr(diffusers, parts.network)(**settings).eval()
    cast(network, dtypes.get("transformer", dtypes["default"]))
    return network


def _vae(parts: ModelParts, dtypes: dict[str, torch.dtype]) -> Any:
    vae = getattr(diffusers, parts.vae)(**parts.vae_settings).eval()
    cast(vae, dtypes.get("vae", dtypes["default"]))
    return vae


def _text_encoder(part: tuple[str, str, Any], dtypes: dict[str, torch.dtype]) -> Any:
    kind, config, settings = part
    encoder = getattr(transformers, kind)(getattr(transformers, config)(**settings)).eval()
    cast(encoder, dtypes["default"])
    return encoder


def _sampling_peak(spec: ModelSpec, parts: ModelParts, network: Any, size: Size) -> int:
    latents, text = latent_size(spec, size), spec.defaults.max_sequence_length
    times = {"timestep": (1, _tokens(spec, size))} if parts.token_times else {}

    def forward() -> Any:
        inputs = parts.inputs(network, 1, latents, text)
        return network(**inputs | {name: torch.empty(shape) for name, shape in times.items()})

    return peak_bytes(network, forward)


def _decode_line(spec: ModelSpec, vae: Any, kind: torch.dtype) -> list[float]:
    """Bytes per pixel, and per pixel and frame, of a decode in one piece."""
    side, frames = 256, (_shorter(spec), 2 * _shorter(spec) - 1)
    peaks = [_decode_peak(spec, vae, kind, (side, side, count)) / side**2 for count in frames]
    per_frame = max(0.0, (peaks[1] - peaks[0]) / (frames[1] - frames[0]))
    return [round(peaks[1] - per_frame * frames[1], 1), round(per_frame, 2)]


def _decode_peak(spec: ModelSpec, vae: Any, kind: torch.dtype, size: Size) -> int:
    channels = _latent_channels(vae)

    def decode() -> Any:
        latents = torch.empty(1, channels, *latent_size(spec, size), dtype=kind)
        return vae.decode(latents, return_dict=False)[0]

    return peak_bytes(vae, decode)


def _shorter(spec: ModelSpec) -> int:
    """A shorter clip that the model can make: 3 to 5 latent frames."""
    return 1 + 2 * max(8, spec.sizes.frame_stride)


def _token_stride(spec: ModelSpec) -> tuple[int, int]:
    """Frames and pixels of one token."""
    time = {"cogvideox": 4}.get(spec.family.name, spec.sizes.frame_stride)
    if spec.family.name == "ltx":
        return time, 32
    return time, 2 * int(PARTS[spec.name].vae_settings.get("scale_factor_spatial", 8))


def _tokens(spec: ModelSpec, size: Size) -> int:
    width, height, frames = size
    time, space = _token_stride(spec)
    return (1 + (frames - 1) // time) * (width // space) * (height // space)


def _latent_values(spec: ModelSpec, channels: int) -> int:
    """Values of the latents per token: the channels of each of its patches."""
    return channels * (1 if spec.family.name == "ltx" else 4)


def _latent_channels(vae: Any) -> int:
    return int(vae.config.get("z_dim") or vae.config.latent_channels)
