"""What requests refer to: profiles, tiny weights, adapters and an image, made in a folder.

Contents that a sample's id depends on are exact numbers, never random ones, so that ids are the
same on every machine. Tiny weights are random; their revision is a constant for that reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPImageProcessorPil

from tests.golden import names

TINY_REVISION = "tiny"
KEPT = ("size", "crop_size", "do_rescale")
"""Settings of an image processor that the tiny models do not leave as they are."""

TAUS = (0.999, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.01)


class Materials:
    """Files in one folder, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = functools.cache(self._model)
        self.tiny = functools.cache(self._tiny)
        self.profile = functools.cache(self._profile)

    def _model(self, name: str) -> names.ResolvedModel:
        """A model of the registry; one without pinned weights gets a made-up revision."""
        spec = names.MODELS[name]
        if not spec.hub_id and not spec.profile:
            return names.ResolvedModel(spec, "nowhere", "0" * 40)
        return names.resolve_model(name)

    def _tiny(self, name: str) -> names.ResolvedModel:
        """A model of the registry with tiny random weights."""
        where = self.folder / "models" / name
        torch.manual_seed(0)
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars
            pipe = with_plain_images(names.TINY_MODELS[name]())
            pipe.save_pretrained(where, safe_serialization=True)
        found = names.resolve_model(name, str(where))
        return dataclasses.replace(found, revision=TINY_REVISION)

    def _profile(self, name: str, revision: str) -> str:
        """Path of a profile that fits a model at its default sampler."""
        spec = names.MODELS[name]
        own = spec.defaults
        metadata = names.ProfileMetadata(
            model=name,
            revision=revision,
            family=spec.family.name,
            sampler=own.sampler,
            shift=own.flow_shift,
            num_train_timesteps=1000,
            num_inference_steps=own.num_inference_steps,
            guidance_scale=own.guidance_scale,
            height=own.height,
            width=own.width,
            num_frames=own.num_frames,
            dtype="float32",
            num_clips=1,
            network_evaluations=1,
        )
        points = tuple(
            names.SensitivityPoint(tau, a_x, 0.0, a_t, 0.0)
            for tau, a_x, a_t in ((1.0, 0.5, 1.5), (0.5, 0.75, 1.0), (0.0, 1.0, 0.5))
        )
        profile = names.SensitivityProfile(
            metadata, {"cond": points, "uncond": points}, drift=drift()
        )
        path = self.folder / f"{name}-{revision[:8]}.json"
        path.write_text(profile.to_json())
        return str(path)

    @functools.cached_property
    def adapter(self) -> str:
        """Path of a LoRA of rank 2 for one layer of the tiny Wan."""
        layer = "transformer.blocks.0.attn1.to_v"
        steps = (torch.arange(96) % 7 - 3) / 4
        path = self.folder / "style.safetensors"
        down, up = f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"
        save_file({down: steps.reshape(2, 48), up: steps.reshape(48, 2).clone()}, path)
        return str(path)

    @functools.cached_property
    def image(self) -> str:
        """Path of an image whose bytes no library decides: an uncompressed bitmap."""
        side = 32
        head = struct.pack("<2sIHHI", b"BM", 54 + 3 * side * side, 0, 0, 54)
        head += struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 2835, 2835, 0, 0)
        pixels = bytes(
            (7 * x + 5 * y + 80 * c) % 256
            for y in range(side)
            for x in range(side)
            for c in range(3)
        )
        path = self.folder / "first.bmp"
        path.write_bytes(head + pixels)
        return str(path)


def with_plain_images(pipe: Any) -> Any:
    """The pipeline, its image processor the one that works alike with and without torchvision."""
    found = getattr(pipe, "image_processor", None)
    if isinstance(found, CLIPImageProcessor | CLIPImageProcessorPil):
        settings = {key: value for key, value in found.to_dict().items() if key in KEPT}
        pipe.register_modules(image_processor=CLIPImageProcessorPil(**settings))
    return pipe


def drift() -> names.OutputDrift:
    """A drift whose output moves on a bent line from noise to clip."""
    paths = [(tau, tau * tau, tau * tau * tau) for tau in TAUS]
    distances = tuple(
        tuple(
            round(sum((a - b) * (a - b) for a, b in zip(one, other, strict=True)) / 3, 9)
            for other in paths
        )
        for one in paths
    )
    return names.OutputDrift(TAUS, (1.0,) * len(TAUS), distances)
