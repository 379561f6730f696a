"""Tiny pipelines of LTX-Video and LTX-2, CogVideoX and Mochi."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers

from tests.sencache.support import tiny_models as tiny
from tests.sencache.support.late_runs import make_cogvideox_video, make_ltx_condition
from tests.sencache.support.other_networks import make_ltx_2
from tests.sencache.support.tiny_pipelines import pictures
from tests.sencache.support.video.base import (
    VideoPipeline,
    always,
    both,
    image_per_row,
    texts,
    video_per_row,
)

NINE = {"height": tiny.SIZE, "width": tiny.SIZE, "num_frames": 9}
MASKED = texts(masked=True)
EXTRA_CALLS = {
    "audio_guidance_scale": None,
    "spatio_temporal_guidance_blocks": [0],
    "stg_scale": 1.0,
    "modality_scale": 3.0,
}
"""Two calls more at each step: one without a block, one with sound and video apart."""


def make_ltx_2_of(kind: type) -> Any:
    accepted = inspect.signature(kind.__init__).parameters
    parts = make_ltx_2().components
    return tiny.quiet(kind(**{name: parts[name] for name in parts if name in accepted}))


def make_cogvideox_15() -> Any:
    """CogVideoX 1.5 from text: patches in time."""
    options = {"patch_size_t": 2, "use_rotary_positional_embeddings": True, "patch_bias": False}
    network = diffusers.CogVideoXTransformer3DModel(**(tiny.COGVIDEOX | options))
    pipe = tiny.make_cogvideox()
    pipe.transformer = tiny.lively(network)
    return pipe


def make_fun_control() -> Any:
    parts = make_cogvideox_video("CogVideoXDDIMScheduler").components
    config = tiny.COGVIDEOX | {"in_channels": 2 * tiny.CHANNELS}
    network = tiny.lively(diffusers.CogVideoXTransformer3DModel(**config))
    return tiny.quiet(diffusers.CogVideoXFunControlPipeline(**(parts | {"transformer": network})))


LTX_LIKE = {
    "LTXPipeline": VideoPipeline(lambda: tiny.make_ltx(diffusers.LTXPipeline), MASKED),
    "LTXImageToVideoPipeline": VideoPipeline(
        lambda: tiny.make_ltx(diffusers.LTXImageToVideoPipeline), both(MASKED, image_per_row())
    ),
    "LTXConditionPipeline": VideoPipeline(make_ltx_condition, MASKED),
    "LTXConditionPipeline (image)": VideoPipeline(
        make_ltx_condition, both(MASKED, always(image=pictures([7]))), most_rows=1
    ),
    "LTX2Pipeline": VideoPipeline(make_ltx_2, MASKED, options=EXTRA_CALLS),
    "LTX2ImageToVideoPipeline": VideoPipeline(
        lambda: make_ltx_2_of(diffusers.LTX2ImageToVideoPipeline),
        both(MASKED, image_per_row()),
        options=EXTRA_CALLS | {"image_crf": 0},
    ),
    "LTX2ConditionPipeline": VideoPipeline(
        lambda: make_ltx_2_of(diffusers.LTX2ConditionPipeline),
        MASKED,
        options=EXTRA_CALLS,
        most_rows=1,  # it takes one generator for all rows
    ),
    "LTX2InContextPipeline": VideoPipeline(
        lambda: make_ltx_2_of(diffusers.LTX2InContextPipeline),
        MASKED,
        options=EXTRA_CALLS,
        most_rows=1,
    ),
    "LTX2HDRPipeline": VideoPipeline(
        lambda: make_ltx_2_of(diffusers.LTX2HDRPipeline),
        MASKED,
        options={name: value for name, value in EXTRA_CALLS.items() if "audio" not in name},
        most_rows=1,
    ),
    "CogVideoXPipeline": VideoPipeline(tiny.make_cogvideox, texts(), size=NINE),
    "CogVideoXPipeline (1.5)": VideoPipeline(make_cogvideox_15, texts(), size=NINE),
    "CogVideoXImageToVideoPipeline": VideoPipeline(
        tiny.make_cogvideox_image, both(texts(), image_per_row()), size=NINE, planned=False
    ),
    "CogVideoXVideoToVideoPipeline": VideoPipeline(
        lambda: make_cogvideox_video("CogVideoXDDIMScheduler"),
        both(texts(), video_per_row(), always(strength=0.7)),
        size={"height": tiny.SIZE, "width": tiny.SIZE},
        late=2,
    ),
    "CogVideoXFunControlPipeline": VideoPipeline(
        make_fun_control,
        both(texts(), video_per_row("control_video")),
        size={"height": tiny.SIZE, "width": tiny.SIZE},
    ),
    "MochiPipeline": VideoPipeline(
        tiny.make_mochi, MASKED, size={"height": tiny.SIZE, "width": tiny.SIZE, "num_frames": 7}
    ),
}
