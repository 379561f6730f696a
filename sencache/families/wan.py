"""Wan 2.1 and 2.2 (also as Lucy Edit), and models derived from it that keep its forward."""

from dataclasses import replace

from sencache.families.base import ONE_CALL, TWO_CALLS, Family, HintBlocks, OfficialSettings

WAN = Family(
    name="wan",
    classes=("WanTransformer3DModel", "WanVACETransformer3DModel"),
    contexts={**TWO_CALLS, **ONE_CALL},  # the pipelines make two; a caller may join them
    per_row=(
        "hidden_states",
        "timestep",
        "encoder_hidden_states",
        "encoder_hidden_states_image",  # two images per row where a last frame is given too
        "control_hidden_states",  # their scale has one item per layer, not per row
    ),
    unnamed=("cond", "uncond"),  # video to video opens no context
    float_latents=True,
    blocks=("blocks",),
    hints=HintBlocks("vace_blocks", "vace_layers", (2, "control_hidden_states")),  # of VACE
    # Scale: latents of 16x21x60x104 elements.
    official=OfficialSettings(0.07, 0.005, 10, 1447.97790038, calls_per_step=2),
    official_readme=OfficialSettings(2.0, 0.045, 3, 1447.97790038, calls_per_step=2),  # 50 steps
)

_DERIVED = replace(WAN, hints=None, official=None, official_readme=None, float_latents=False)

CHRONOEDIT = replace(
    _DERIVED,
    name="chronoedit",
    classes=("ChronoEditTransformer3DModel",),
    contexts=TWO_CALLS,
    per_row=WAN.per_row[:4],
    chunked=True,  # after its reasoning steps it drops all frames between the first and the last
)

SKYREELS_V2 = replace(
    _DERIVED,
    name="skyreels_v2",
    classes=("SkyReelsV2Transformer3DModel",),
    contexts=TWO_CALLS,
    per_row=(*WAN.per_row[:4], "fps"),
    unnamed=(),
)

WAN_ANIMATE = replace(
    _DERIVED,
    name="wan_animate",
    classes=("WanAnimateTransformer3DModel",),
    contexts=TWO_CALLS,
    per_row=(*WAN.per_row[:4], "pose_hidden_states", "face_pixel_values"),
    unnamed=(),
    blocks=(),  # the face adapter works between them
    chunked=True,
)
