"""Families whose pipelines make one call per step for both branches and open no context."""

from sencache.families.base import ONE_CALL, Family

_JOINED = ("cond_uncond",)

SANA_VIDEO = Family(
    name="sana_video",
    classes=("SanaVideoTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=(
        "hidden_states",
        "encoder_hidden_states",
        "timestep",
        "guidance",
        "encoder_attention_mask",
        "attention_mask",
    ),
    unnamed=_JOINED,
)

ALLEGRO = Family(
    name="allegro",
    classes=("AllegroTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=(
        "hidden_states",
        "encoder_hidden_states",
        "timestep",
        "attention_mask",
        "encoder_attention_mask",
    ),
    unnamed=_JOINED,
)

EASYANIMATE = Family(
    name="easyanimate",
    classes=("EasyAnimateTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=(
        "hidden_states",
        "timestep",
        "timestep_cond",
        "encoder_hidden_states",
        "encoder_hidden_states_t5",
        "inpaint_latents",
        "control_latents",
    ),
    unnamed=_JOINED,
)

CONSISID = Family(
    name="consisid",
    classes=("ConsisIDTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=(
        "hidden_states",
        "encoder_hidden_states",
        "timestep",
        "timestep_cond",
        "id_cond",
        "id_vit_hidden",  # a list: one tensor per layer of the face encoder
    ),
    unnamed=_JOINED,
    channel_dim=2,  # frames come first
)

LATTE = Family(
    name="latte",
    classes=("LatteTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=("hidden_states", "timestep", "encoder_hidden_states", "encoder_attention_mask"),
    unnamed=_JOINED,
)

ANYFLOW = Family(
    name="anyflow",
    classes=("AnyFlowTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=(
        "hidden_states",
        "timestep",
        "r_timestep",
        "encoder_hidden_states",
        "encoder_hidden_states_image",
    ),
    unnamed=_JOINED,
    moving=("r_timestep",),
    channel_dim=2,  # frames come first
)
