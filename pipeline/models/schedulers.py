"""Which diffusers schedulers a model of each family may be sampled with, by class name.

Reading this module costs nothing: it imports neither torch nor diffusers. What a sampler's name in
a request stands for is `pipeline.models.sampler`'s.
"""

from __future__ import annotations

EULER = "FlowMatchEulerDiscreteScheduler"
UNIPC = "UniPCMultistepScheduler"
DPM_SOLVER = "DPMSolverMultistepScheduler"
COG_DDIM = "CogVideoXDDIMScheduler"
COG_DPM = "CogVideoXDPMScheduler"

SAMPLERS: dict[str, tuple[str, ...]] = {
    "wan": (UNIPC, EULER, DPM_SOLVER),
    "cogvideox": (COG_DDIM, COG_DPM),
    "ltx": (EULER,),
    "hunyuan_video": (EULER,),
}
"""Scheduler classes that predict what a family's network was trained to give. One network
evaluation per step each, which the step counts of a row rely on (Heun would be two)."""

RANDOM_SAMPLERS = frozenset({COG_DPM})
"""Those of them that draw noise at every step: what an output does in the end cannot be told, so
no plan can be made for them. A test holds this to `sencache.step_moves`, which needs diffusers."""
