"""Pipeline classes of diffusers beyond the registry's: families, inputs, sizes and examples.

Read from the classes of diffusers 0.42.1 and their documentation. Nothing here is needed for a
class of the registry.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.models.catalogue.saved_pipeline import SavedPipeline
from pipeline.models.catalogue.saved_sizes import sizes_of
from pipeline.models.families.base import ModelFamily
from pipeline.models.samplers import DPM_SOLVER, EULER, LCM, UNIPC
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import SamplingDefaults
from sencache import ProfileError
from sencache.measuring import Prediction
from sencache.measuring import prediction_of as prediction_by

_DETERMINISTIC = {"EulerAncestralDiscreteScheduler": "EulerDiscreteScheduler"}
"""Samplers that draw noise at every step, and the one that takes the same steps without noise."""

NO_CLIPS: Mapping[str, str] = {
    "ChronoEditPipeline": "it edits an image, and gives five frames whatever length is asked for",
    "LTX2HDRPipeline": "it gives linear light without an upper end, which no mp4 here can hold",
}
"""Classes whose output is no clip of a chosen size, and why."""


FRAMEPACK_SECTION, FRAMEPACK_WINDOW = 9 * 4, 8 * 4 + 1
"""Frames that a section of FramePack adds to a clip, and that its call counts for it: 9 latent
frames, the default of its call."""

SIZE_OF_IMAGE = frozenset({"HunyuanVideo15ImageToVideoPipeline"})
"""Classes whose clips have the size of their image."""

OWN_STEPS = frozenset({"HeliosPipeline", "HunyuanVideoFramepackPipeline", "WanAnimatePipeline"})
"""Classes that sample a clip in parts, each with all steps."""

_SPEEDS = {"HunyuanVideo15Pipeline": 24}
"""Frames per second that the example of a class gets wrong; here that of its image-to-video one."""

TILED_ONLY = frozenset({"allegro"})
"""Families whose decoder works in tiles only."""


def family_of(saved: SavedPipeline, name: str) -> ModelFamily:
    """Return the family of a saved pipeline's networks, with the sampler that is saved with it.

    It is not split over devices: no test compares such a split with one device.

    Args:
        saved: The configurations.
        name: Of the family, as in `sencache`.
    """
    sampler = saved.part_class("scheduler") or EULER
    random = (sampler,) if sampler in _DETERMINISTIC else ()
    samplers = (*random, _DETERMINISTIC.get(sampler, sampler))
    config = saved.configs.get("scheduler", {})
    flow = sampler in (EULER, LCM) or (
        sampler in (UNIPC, DPM_SOLVER) and config.get("prediction_type") == "flow_prediction"
    )
    settings: dict[str, Any] | None = None if flow else {}
    return ModelFamily(name, samplers, random, settings)


def prediction_of(saved: SavedPipeline) -> Prediction:
    """What the networks predict, from the scheduler's configuration."""
    config = saved.configs.get("scheduler", {})
    try:
        return prediction_by({**config, "_class_name": saved.part_class("scheduler")})
    except ProfileError:
        return "flow"


def own_rules(saved: SavedPipeline, rules: SizeRules) -> SizeRules:
    """Return the sizes of a class whose call allows fewer than its networks do."""
    name = saved.class_name
    if name == "Kandinsky5I2VPipeline":  # the first four latent frames are matched to later ones
        return dataclasses.replace(rules, min_frames=4 * rules.frame_stride + 1)
    if name == "HunyuanVideoFramepackPipeline":
        return dataclasses.replace(
            rules, frame_stride=FRAMEPACK_SECTION, min_frames=FRAMEPACK_SECTION + 1
        )
    if name == "HunyuanVideo15ImageToVideoPipeline":
        return dataclasses.replace(rules, only=hunyuan_15_sizes(saved.configs, rules))
    return rules


def hunyuan_15_sizes(
    configs: Mapping[str, Mapping[str, Any]], rules: SizeRules
) -> tuple[tuple[int, int], ...]:
    """The sizes that HunyuanVideo 1.5 leaves as they are: it brings each image to the next one."""
    from diffusers.pipelines.hunyuan_video1_5.image_processor import (
        HunyuanVideo15ImageProcessor,
        generate_crop_size_list,
    )

    area = configs.get("transformer", {}).get("target_size", 640)
    stride = configs.get("vae", {}).get("spatial_compression_ratio", 16)
    nearest = HunyuanVideo15ImageProcessor(vae_scale_factor=stride).calculate_default_height_width
    return tuple(
        (width, height)
        for height, width in generate_crop_size_list(area, stride)
        if not (width % rules.multiple or height % rules.multiple)
        and nearest(height, width, area) == (height, width)
    )


def fitted(defaults: SamplingDefaults, rules: SizeRules) -> SamplingDefaults:
    """Bring the default size of a class to one that it can make: no shorter, and the nearest."""
    frames = max(defaults.num_frames, rules.min_frames)
    frames += (rules.frame_start - frames) % rules.frame_stride
    width, height = defaults.width, defaults.height
    if rules.only:
        width, height = min(
            rules.only, key=lambda size: abs(size[0] - width) + abs(size[1] - height)
        )
    return dataclasses.replace(defaults, num_frames=frames, width=width, height=height)


def frames_asked(saved: SavedPipeline) -> Callable[[int], int] | None:
    """How a class counts the frames of a clip, where it counts them otherwise."""
    if saved.class_name == "HunyuanVideoFramepackPipeline":
        return framepack_frames
    network = saved.configs.get("transformer", {})
    joins = network.get("image_condition_type", "latent_concat") == "latent_concat"
    if saved.class_name == "HunyuanVideoImageToVideoPipeline" and joins:
        return four_more
    return None


def four_more(num_frames: int) -> int:
    """HunyuanVideo cuts off four frames where it sets the image's latents beside the noise."""
    return num_frames + 4


def framepack_frames(num_frames: int) -> int:
    """The number that FramePack is asked for: it counts 33 frames where it adds 36 to a clip."""
    return (num_frames - 1) // FRAMEPACK_SECTION * FRAMEPACK_WINDOW


def sizes_for(saved: SavedPipeline, family: str) -> SizeRules:
    """Return the sizes that a class of a family without rules in the registry can make."""
    network = saved.configs.get("transformer", {})
    rules = sizes_of(saved.configs, SizeRules(multiple=16, frame_stride=4))
    if family == "allegro":  # a clip has no first frame of its own: 88 frames are 22 of the VAE's
        return dataclasses.replace(rules, frame_start=0)
    if family == "latte":  # an image VAE, and as many frames as the network has positions
        length = network.get("video_length")
        return dataclasses.replace(rules, frame_stride=1, max_frames=length)
    if family == "helios":  # whole chunks: 9 latent frames, of which the first is one frame
        return SizeRules(rules.multiple, 8 * 4 + 1, 8 * 4 + 1, frame_start=0)
    return rules


def defaults_for(pipeline_type: type, saved: SavedPipeline) -> SamplingDefaults:
    """The settings that a class has where its call's signature states none.

    The speed is that of the example in its documentation; the size that of its network.
    """
    example = getattr(sys.modules[pipeline_type.__module__], "EXAMPLE_DOC_STRING", "")
    fps = re.search(r"\bfps=(\d+)", example)
    network, vae = saved.configs.get("transformer", {}), saved.configs.get("vae", {})
    size = {name: 480 if name == "height" else 832 for name in ("height", "width")}
    stride = vae.get("scale_factor_spatial", vae.get("spatial_compression_ratio", 8))
    for name in size:
        latent = network.get(f"sample_{name}")
        if isinstance(latent, int) and isinstance(stride, int):
            size[name] = latent * stride
    frames = network.get("sample_frames")
    return SamplingDefaults(
        width=size["width"],
        height=size["height"],
        num_frames=frames * 4 if isinstance(frames, int) else 121,
        fps=_SPEEDS.get(saved.class_name, int(fps[1]) if fps else 8),
        num_inference_steps=50,
        guidance_scale=6.0,
        max_sequence_length=256,
    )
