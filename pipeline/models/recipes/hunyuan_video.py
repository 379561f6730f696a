"""Recipes of the family HunyuanVideo."""

from __future__ import annotations

from pipeline.models.recipes.base import Recipe
from pipeline.models.samplers import EULER

_CARD = "model card of FastVideo/FastHunyuan"
_CONFIG = "hao-ai-lab/FastVideo fastvideo/configs/pipelines/hunyuan.py: FastHunyuanConfig"

RECIPES = (
    Recipe(
        name="fasthunyuan-6step",
        model="hunyuanvideo",
        about="FastHunyuan, weights of its own; guidance stays an input of the network",
        sampling={
            "sampler": EULER,
            "num_inference_steps": 6,
            "flow_shift": 17.0,
            "guidance_scale": 6.0,
            "width": 1280,
            "height": 720,
            "num_frames": 125,
        },
        weights="FastVideo/FastHunyuan-diffusers@7e948fca38562e218ae34485e005956592d36d9b",
        licence="tencent-hunyuan-community",
        sources={
            "sampler": _CONFIG,
            "num_inference_steps": _CARD,
            "flow_shift": f"{_CARD}; {_CONFIG}",
            "guidance_scale": f"{_CONFIG}: embedded_cfg_scale 6",
            "width": _CARD,
            "height": _CARD,
            "num_frames": _CARD,
            "weights": "hao-ai-lab/FastVideo fastvideo/registry.py",
        },
    ),
)
