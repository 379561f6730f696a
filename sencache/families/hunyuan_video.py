"""HunyuanVideo: embedded guidance, or two calls; version 1.5; and FramePack, which makes chunks."""

from sencache.families.base import GUIDER_CALLS, TWO_CALLS, Family

_TEXT = ("encoder_hidden_states", "encoder_attention_mask")

HUNYUAN_VIDEO = Family(
    name="hunyuan_video",
    classes=("HunyuanVideoTransformer3DModel",),
    contexts=TWO_CALLS,  # with true guidance
    per_row=("hidden_states", "timestep", *_TEXT, "pooled_projections", "guidance"),
    unnamed=("cond", "uncond"),  # the image-to-video pipelines open no context
    blocks=("transformer_blocks", "single_transformer_blocks"),
)

HUNYUAN_VIDEO_15 = Family(
    name="hunyuan_video_15",
    classes=("HunyuanVideo15Transformer3DModel",),
    contexts=GUIDER_CALLS,
    per_row=(
        "hidden_states",
        "timestep",
        "timestep_r",
        *_TEXT,
        "encoder_hidden_states_2",
        "encoder_attention_mask_2",
        "image_embeds",
    ),
    moving=("timestep_r",),
)

FRAMEPACK = Family(
    name="hunyuan_framepack",
    classes=("HunyuanVideoFramepackTransformer3DModel",),
    contexts=TWO_CALLS,
    per_row=(
        *HUNYUAN_VIDEO.per_row,
        "image_embeds",
        "latents_clean",
        "latents_history_2x",
        "latents_history_4x",
    ),
    unnamed=("cond", "uncond"),
    chunked=True,
)
