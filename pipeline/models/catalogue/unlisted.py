"""Pipeline classes of diffusers beyond the registry's: families, inputs, sizes and examples.

Read from the classes of diffusers 0.42.1 and their documentation. Nothing here is needed for a
class of the registry.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from typing import Any

from pipeline.models.catalogue.saved_pipeline import SavedPipeline
from pipeline.models.catalogue.saved_sizes import sizes_of
from pipeline.models.families.base import ModelFamily
from pipeline.models.samplers import DPM_SOLVER, EULER, LCM, UNIPC
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import SamplingDefaults
from sencache.measuring import Prediction

_DETERMINISTIC = {"EulerAncestralDiscreteScheduler": "EulerDiscreteScheduler"}
"""Samplers that draw noise at every step, and the one that takes the same steps without noise."""

INPUTS = frozenset(
    {
        *("video", "control_video", "mask", "mask_video", "pose_video", "face_video"),
        *("reference_images", "conditions", "control_image", "negative_video", "id_cond"),
        *("reference_conditions",),
    }
)
"""Inputs of calls that rows cannot give."""

OPTIONAL_INPUTS: Mapping[str, frozenset[str]] = {
    "WanVACEPipeline": frozenset({"video", "mask", "reference_images"}),
    "CosmosVideoToWorldPipeline": frozenset({"video"}),
    "Cosmos2VideoToWorldPipeline": frozenset({"video"}),
    "Cosmos2_5_PredictBasePipeline": frozenset({"video", "image"}),
    "HeliosPipeline": frozenset({"video", "image"}),
    "Kandinsky6TI2VAPipeline": frozenset({"image"}),
    "LTX2ConditionPipeline": frozenset({"conditions"}),
    "LTX2InContextPipeline": frozenset({"conditions", "reference_conditions"}),
}
"""Inputs without which a class makes clips all the same, as its documentation says."""

WINDOWED: Mapping[str, str] = {
    "HunyuanVideoFramepackPipeline": "it makes whole windows of frames, so the length of a clip "
    "cannot be chosen",
    "ChronoEditPipeline": "it edits an image, and gives five frames whatever length is asked for",
}
"""Classes that cannot make a clip of a chosen size, and why."""


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
    kind = saved.configs.get("scheduler", {}).get("prediction_type")
    known: dict[Any, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}
    return known.get(kind, "flow")


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
