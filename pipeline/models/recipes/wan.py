"""Recipes of the family Wan: the embedded model's, and the public ones of Wan 2.1 and 2.2."""

from __future__ import annotations

from pipeline.models.recipes.base import Recipe
from pipeline.models.samplers import EULER, LCM

_FOUR_STEPS = (1.0, 0.9375, 0.8333333, 0.625)
"""1, 3/4, 1/2 and 1/4 under a shift of 5: 5 u / (1 + 4 u)."""

_LIGHTNING = "ModelTC/Wan2.2-Lightning wan/configs/wan_t2v_A14B.py, wan/utils/fm_solvers_euler.py"
_LIGHTNING_FILES = (
    "hf://lightx2v/Wan2.2-Lightning@18bccf8884ec0a078eed79785eb4ef13ea16ce1e/"
    "Wan2.2-T2V-A14B-4steps-lora-rank64-Seko-V1.1"
)
_LIGHTX2V_2_2 = "ModelTC/LightX2V configs/distill/wan22/wan_moe_t2v_distill_lora.json"
_LIGHTX2V_STEPS = "ModelTC/LightX2V lightx2v/models/schedulers/wan/step_distill/scheduler.py"


def _lightx2v_of_wan_2_1(model: str, lora: str, config: str) -> Recipe:
    """LightX2V's step distillation of a Wan 2.1, by the names of its LoRA and configuration."""
    source = f"ModelTC/LightX2V configs/distill/wan21/{config}.json"
    return Recipe(
        name="lightx2v-4step",
        model=model,
        about="LightX2V's step distillation, a LoRA; it draws noise at every step",
        sampling={
            "sampler": LCM,
            "sigmas": _FOUR_STEPS,
            "guidance_scale": 1.0,
            "width": 832,
            "height": 480,
        },
        adapters=(f"hf://lightx2v/Wan2.1-Distill-Loras/{lora}.safetensors",),
        sources={
            "sampler": f"{_LIGHTX2V_STEPS}: WanStepDistillScheduler",
            "sigmas": f"{source}: denoising_step_list, sample_shift 5",
            "guidance_scale": f"{source}: enable_cfg false",
            "width": source,
            "height": source,
            "adapters": source,
        },
    )


RECIPES = (
    Recipe(
        name="distilled-4step",
        model="demo",
        about="the embedded model, distilled here",
        sampling={"sampler": EULER, "sigmas": (1.0, 0.9, 0.75, 0.5), "guidance_scale": 1.0},
        adapters=("shipped:demo/distilled-4step.safetensors",),
        sources={
            "sampler": "jobs/benchmarks/demo_model/distil",
            "sigmas": "jobs/benchmarks/demo_model/distil/config.py",
            "guidance_scale": "jobs/benchmarks/demo_model/distil: trained without guidance",
            "adapters": "python -m jobs.benchmarks.demo_model.distil",
        },
    ),
    Recipe(
        name="lightning-4step",
        model="wan2.2-t2v-a14b",
        about="Wan2.2-Lightning V1.1, a LoRA for each of the two networks",
        sampling={
            "sampler": EULER,
            "sigmas": _FOUR_STEPS,
            "guidance_scale": 1.0,
            "guidance_scale_2": 1.0,
        },
        adapters=(
            f"{_LIGHTNING_FILES}/high_noise_model.safetensors",
            f"{_LIGHTNING_FILES}/low_noise_model.safetensors#transformer_2",
        ),
        sources={
            "sampler": "ModelTC/Wan2.2-Lightning generate.py: euler was used in distillation",
            "sigmas": f"{_LIGHTNING}: 4 steps from 1000 to 0, sample_shift 5",
            "guidance_scale": f"{_LIGHTNING}: sample_guide_scale 1 for both networks",
            "guidance_scale_2": f"{_LIGHTNING}: sample_guide_scale 1 for both networks",
            "adapters": "ModelTC/Wan2.2-Lightning README.md",
        },
    ),
    Recipe(
        name="lightx2v-4step",
        model="wan2.2-t2v-a14b",
        about="LightX2V's step distillation of December 2025, a LoRA for each of the two networks",
        sampling={
            "sampler": EULER,
            "sigmas": _FOUR_STEPS,
            "guidance_scale": 1.0,
            "guidance_scale_2": 1.0,
            "width": 832,
            "height": 480,
        },
        adapters=tuple(
            "hf://lightx2v/Wan2.2-Distill-Loras/"
            f"wan2.2_t2v_A14b_{noise}_noise_lora_rank64_lightx2v_4step_1217.safetensors{network}"
            for noise, network in (("high", ""), ("low", "#transformer_2"))
        ),
        sources={
            "sampler": f"{_LIGHTX2V_STEPS}: Wan22StepDistillScheduler",
            "sigmas": f"{_LIGHTX2V_2_2}: denoising_step_list, sample_shift 5",
            "guidance_scale": f"{_LIGHTX2V_2_2}: enable_cfg false",
            "guidance_scale_2": f"{_LIGHTX2V_2_2}: enable_cfg false",
            "width": _LIGHTX2V_2_2,
            "height": _LIGHTX2V_2_2,
            "adapters": _LIGHTX2V_2_2,
        },
    ),
    _lightx2v_of_wan_2_1(
        "wan2.1-t2v-14b",
        "wan2.1_t2v_14b_lora_rank64_lightx2v_4step",
        "wan_t2v_distill_lora_4step_cfg",
    ),
    _lightx2v_of_wan_2_1(
        "wan2.1-i2v-14b",
        "wan2.1_i2v_lora_rank64_lightx2v_4step",
        "wan_i2v_distill_lora_4step_cfg",
    ),
)
