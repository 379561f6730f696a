"""What the calls of diffusers' pipelines take besides texts, and from which columns.

Read from signatures, where names tell it; what they do not tell is listed by class, from the
sources of diffusers 0.42.1. Functions are picklable; diffusers is imported inside them only.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.models.catalogue.saved_pipeline import SavedPipeline
from pipeline.models.spec import ConditionArguments, PipelineClass, as_given
from pipeline.prompts.condition_columns import FIRST_IMAGE, ConditionColumn, MediaCondition
from pipeline.requests.sample_request import SampleRequest

COLUMN_OF: Mapping[str, ConditionColumn] = {
    "image": "image",
    "last_image": "last_image",
    "video": "video",
    "control_video": "video",
    "mask": "mask",
    "mask_video": "mask",
    "reference_images": "reference_images",
    "pose_video": "pose_video",
    "face_video": "face_video",
}
"""The column of each argument that rows can give."""

NOT_FROM_ROWS = frozenset(
    {
        *("conditions", "control_image", "negative_video", "id_cond", "reference_conditions"),
        *("background_video",),
    }
)
"""Arguments of calls that no column can give as they are."""

OPTIONAL: Mapping[str, frozenset[str]] = {
    "WanVACEPipeline": frozenset({"video", "mask", "reference_images"}),
    "CosmosVideoToWorldPipeline": frozenset({"video"}),
    "Cosmos2VideoToWorldPipeline": frozenset({"video"}),
    "Cosmos2_5_PredictBasePipeline": frozenset({"video", "image"}),
    "HeliosPipeline": frozenset({"video", "image"}),
    "HunyuanVideoFramepackPipeline": frozenset({"last_image"}),
    "Kandinsky6TI2VAPipeline": frozenset({"image"}),
    "LTX2ConditionPipeline": frozenset({"conditions"}),
    "LTX2InContextPipeline": frozenset({"conditions", "reference_conditions"}),
    "SkyReelsV2ImageToVideoPipeline": frozenset({"last_image"}),
    "WanAnimatePipeline": frozenset({"background_video", "mask_video"}),
}
"""Arguments without which a class makes clips all the same, as its documentation says."""

UNUSED: Mapping[str, frozenset[str]] = {
    "CosmosVideoToWorldPipeline": frozenset({"video"}),
    "Cosmos2VideoToWorldPipeline": frozenset({"video"}),
    "Cosmos2_5_PredictBasePipeline": frozenset({"video"}),
    "HeliosPipeline": frozenset({"video"}),
    "WanAnimatePipeline": frozenset({"background_video", "mask_video"}),
}
"""Optional arguments that are left out: a video that the clip goes on from, or is put into."""

ONE_PROMPT = frozenset({"WanVACEPipeline", "LTX2ConditionPipeline", "LTX2InContextPipeline"})
"""Classes that need no file and yet take one prompt per call."""


def own_frames(media: Mapping[str, Any], request: SampleRequest) -> dict[str, Any]:
    """Conditions of LTX-2: frames with the place where they stand in the clip."""
    from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition

    places = {"image": 0, "last_image": -1}
    given = [LTX2VideoCondition(media[name], at) for name, at in places.items() if name in media]
    return {"conditions": given} if given else {}


def frames_in_context(media: Mapping[str, Any], request: SampleRequest) -> dict[str, Any]:
    """The same, and a video that an adapter of LTX-2 refers to."""
    from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition

    given = own_frames(media, request)
    if "video" in media:
        given["reference_conditions"] = [LTX2ReferenceCondition(media["video"])]
    return given


def tensors(media: Mapping[str, Any], request: SampleRequest) -> dict[str, Any]:
    """Video and mask as EasyAnimate takes them.

    Returns:
        Tensors of shape [1, channels, frames, height, width]: the video from 0 to 1, and the mask
        from 0 to 255.
    """
    import numpy as np
    import torch

    def stacked(frames: Sequence[Any]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([np.atleast_3d(np.asarray(each)) for each in frames]))
        return pixels.permute(3, 0, 1, 2)[None].float()

    video, mask = stacked(media["video"]) / 255, stacked(media["mask_video"])
    return {"video": video, "mask_video": mask}


_PLACED = (MediaCondition("image", required=False), MediaCondition("last_image", required=False))

OWN: Mapping[str, tuple[tuple[MediaCondition, ...], ConditionArguments]] = {
    "LTX2ConditionPipeline": (_PLACED, own_frames),
    "LTX2InContextPipeline": (
        (*_PLACED, MediaCondition("video", required=False)),
        frames_in_context,
    ),
    "EasyAnimateInpaintPipeline": (
        (MediaCondition("video"), MediaCondition("mask", "mask_video")),
        tensors,
    ),
}
"""Conditions of classes whose arguments are not the media themselves."""


def conditions_of(
    saved: SavedPipeline, parameters: Mapping[str, inspect.Parameter]
) -> tuple[tuple[MediaCondition, ...], ConditionArguments]:
    """What clips of a class start from, and how its call takes that.

    Args:
        saved: A pipeline of the class.
        parameters: Of its call.
    """
    name, network = saved.class_name, saved.configs.get("transformer", {})
    if name in OWN:
        return OWN[name]
    if name == "Kandinsky6TI2VAPipeline" and network.get("visual_token_type_num_embeddings", 0) < 2:
        return (), as_given  # a network for texts alone
    optional, unused = OPTIONAL.get(name, frozenset()), UNUSED.get(name, frozenset())
    found = tuple(
        MediaCondition(
            column,
            "" if argument == column else argument,
            required=argument not in optional,
            needs="video" if column == "mask" and "video" in parameters else None,
        )
        for argument, column in COLUMN_OF.items()
        if argument in parameters and argument not in unused
    )
    return found, as_given


def with_last_image(known: PipelineClass, saved: SavedPipeline) -> PipelineClass:
    """Return Wan's image-to-video class with what the saved network does with a last frame.

    A network of Wan 2.1 that joins a first and a last frame needs both; one that sees the first
    frame through an image encoder cannot take a last one; others can (Wan 2.2 A14B).
    """
    network = saved.configs.get("transformer", {})
    if known.name != "WanImageToVideoPipeline" or saved.index.get("expand_timesteps"):
        return known
    joins = bool(network.get("pos_embed_seq_len"))
    if not joins and network.get("image_dim") is not None:
        return known
    last = MediaCondition("last_image", required=joins)
    return dataclasses.replace(known, conditions=(FIRST_IMAGE, last))
