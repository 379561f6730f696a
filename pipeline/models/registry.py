"""The models this pipeline runs, by name.

Sampling defaults are the authors' own: the README and configuration of Wan-Video/Wan2.1 and 2.2,
zai-org/CogVideo (`inference/cli_demo.py`), Lightricks/LTX-Video and Tencent-Hunyuan/HunyuanVideo,
and their examples in diffusers. Commits are those of the Hub repositories' main branch in 2026; a
pinned commit is part of every sample's identity, so a moved branch can never change a dataset.

Reading this module costs nothing: it imports neither torch nor diffusers.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from pipeline.errors import UserError
from pipeline.models.samplers import (
    COG_DDIM,
    COG_DPM,
    EULER,
    UNIPC,
)
from pipeline.models.spec import ModelSpec, SamplingDefaults

_WAN_NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，"
    "形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
"""`sample_neg_prompt` of Wan 2.1 and 2.2: the models were tuned with it, in Chinese."""

_MODELS = (
    ModelSpec(
        name="demo",
        hub_id="",
        revision="",
        pipeline_class="WanPipeline",
        family="wan",
        licence="Apache-2.0",
        dtype="float32",
        size_multiple=16,
        frame_stride=4,
        defaults=SamplingDefaults(
            width=64,
            height=64,
            num_frames=17,
            fps=8,
            num_inference_steps=50,
            guidance_scale=4.0,
            max_sequence_length=32,
            sampler=EULER,
            flow_shift=3.0,
        ),
        batch_rows=4,
        profile="profile.json",
    ),
    ModelSpec(
        name="wan2.1-t2v-1.3b",
        hub_id="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        revision="0fad780a534b6463e45facd96134c9f345acfa5b",
        pipeline_class="WanPipeline",
        family="wan",
        licence="Apache-2.0",
        dtype="bfloat16",
        size_multiple=16,
        frame_stride=4,
        defaults=SamplingDefaults(
            width=832,
            height=480,
            num_frames=81,
            fps=16,
            num_inference_steps=50,
            guidance_scale=6.0,
            max_sequence_length=512,
            sampler=UNIPC,
            flow_shift=8.0,
            negative_prompt=_WAN_NEGATIVE,
        ),
    ),
    ModelSpec(
        name="wan2.1-t2v-14b",
        hub_id="Wan-AI/Wan2.1-T2V-14B-Diffusers",
        revision="38ec498cb3208fb688890f8cc7e94ede2cbd7f68",
        pipeline_class="WanPipeline",
        family="wan",
        licence="Apache-2.0",
        dtype="bfloat16",
        size_multiple=16,
        frame_stride=4,
        defaults=SamplingDefaults(
            width=1280,
            height=720,
            num_frames=81,
            fps=16,
            num_inference_steps=50,
            guidance_scale=5.0,
            max_sequence_length=512,
            sampler=UNIPC,
            flow_shift=5.0,
            negative_prompt=_WAN_NEGATIVE,
        ),
    ),
    ModelSpec(
        name="wan2.2-t2v-a14b",
        hub_id="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
        revision="5be7df9619b54f4e2667b2755bc6a756675b5cd7",
        pipeline_class="WanPipeline",
        family="wan",
        licence="Apache-2.0",
        dtype="bfloat16",
        size_multiple=16,
        frame_stride=4,
        # The authors give the low-noise expert a guidance of 3; a request has one scale for both.
        defaults=SamplingDefaults(
            width=1280,
            height=720,
            num_frames=81,
            fps=16,
            num_inference_steps=40,
            guidance_scale=4.0,
            max_sequence_length=512,
            sampler=UNIPC,
            flow_shift=12.0,
            negative_prompt=_WAN_NEGATIVE,
        ),
    ),
    ModelSpec(
        name="wan2.1-i2v-14b",  # Wan-AI/Wan2.1-I2V-14B-480P-Diffusers, by --model-path
        hub_id="",
        revision="",
        pipeline_class="WanImageToVideoPipeline",
        family="wan",
        licence="Apache-2.0",
        dtype="bfloat16",
        size_multiple=16,
        frame_stride=4,
        defaults=SamplingDefaults(
            width=832,
            height=480,
            num_frames=81,
            fps=16,
            num_inference_steps=40,
            guidance_scale=5.0,
            max_sequence_length=512,
            sampler=UNIPC,
            flow_shift=3.0,
            negative_prompt=_WAN_NEGATIVE,
        ),
        takes_image=True,
    ),
    ModelSpec(
        name="cogvideox-2b",
        hub_id="zai-org/CogVideoX-2b",
        revision="1137dacfc2c9c012bed6a0793f4ecf2ca8e7ba01",
        pipeline_class="CogVideoXPipeline",
        family="cogvideox",
        licence="Apache-2.0",
        dtype="float16",
        size_multiple=16,
        frame_stride=8,
        defaults=SamplingDefaults(
            width=720,
            height=480,
            num_frames=49,
            fps=8,
            num_inference_steps=50,
            guidance_scale=6.0,
            max_sequence_length=226,
            sampler=COG_DDIM,
        ),
    ),
    ModelSpec(
        name="cogvideox-5b",
        hub_id="zai-org/CogVideoX-5b",
        revision="8fc5b281006c82b82d34fd2543d2f0ebb4e7e321",
        pipeline_class="CogVideoXPipeline",
        family="cogvideox",
        licence="CogVideoX License",
        dtype="bfloat16",
        size_multiple=16,
        frame_stride=8,
        defaults=SamplingDefaults(
            width=720,
            height=480,
            num_frames=49,
            fps=8,
            num_inference_steps=50,
            guidance_scale=6.0,
            max_sequence_length=226,
            sampler=COG_DPM,
        ),
    ),
    ModelSpec(
        name="ltx-video",
        hub_id="Lightricks/LTX-Video",
        revision="8984fa25007f376c1a299016d0957a37a2f797bb",
        pipeline_class="LTXPipeline",
        family="ltx",
        licence="LTX-Video-Open-Weights-License-0.X",
        dtype="bfloat16",
        size_multiple=32,
        frame_stride=8,
        # Its scheduler derives the shift from the number of tokens: no flow_shift here.
        defaults=SamplingDefaults(
            width=704,
            height=480,
            num_frames=161,
            fps=24,
            num_inference_steps=50,
            guidance_scale=3.0,
            max_sequence_length=128,
            sampler=EULER,
            negative_prompt="worst quality, inconsistent motion, blurry, jittery, distorted",
        ),
    ),
    ModelSpec(
        name="ltx-video-i2v",
        hub_id="Lightricks/LTX-Video",
        revision="8984fa25007f376c1a299016d0957a37a2f797bb",
        pipeline_class="LTXImageToVideoPipeline",
        family="ltx",
        licence="LTX-Video-Open-Weights-License-0.X",
        dtype="bfloat16",
        size_multiple=32,
        frame_stride=8,
        defaults=SamplingDefaults(
            width=704,
            height=480,
            num_frames=161,
            fps=24,
            num_inference_steps=50,
            guidance_scale=3.0,
            max_sequence_length=128,
            sampler=EULER,
            negative_prompt="worst quality, inconsistent motion, blurry, jittery, distorted",
        ),
        takes_image=True,
        min_frames=9,  # the first frame is the image: a clip of one leaves nothing to sample
        saved_as="LTXPipeline",  # one set of weights for both
    ),
    ModelSpec(
        name="hunyuanvideo",
        hub_id="hunyuanvideo-community/HunyuanVideo",
        revision="e8c2aaa66fe3742a32c11a6766aecbf07c56e773",
        pipeline_class="HunyuanVideoPipeline",
        family="hunyuan_video",
        licence="tencent-hunyuan-community",
        dtype="bfloat16",
        size_multiple=16,
        frame_stride=4,
        # Guidance is distilled into the network: the scale is an input, there is no second branch.
        defaults=SamplingDefaults(
            width=1280,
            height=720,
            num_frames=129,
            fps=24,
            num_inference_steps=50,
            guidance_scale=6.0,
            max_sequence_length=256,
            sampler=EULER,
            flow_shift=7.0,
        ),
        # As the authors' example: 129 frames of 1280x720 decoded at once crowd out the network.
        vae_tiling=True,
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _MODELS}
"""Every model by its `--model` name."""


def get_model(name: str) -> ModelSpec:
    """Look a model up.

    Raises:
        UserError: No model has this name; the text names the closest one and all of them.
    """
    spec = MODELS.get(name)
    if spec is None:
        close = difflib.get_close_matches(name.lower(), MODELS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"unknown model {name!r}: {hint}known models are {', '.join(MODELS)}")
    return spec


def shipped_folder(spec: ModelSpec) -> Path:
    """Folder inside this package for what comes with a model: its profile, the demo's weights."""
    return Path(__file__).parent / spec.name
