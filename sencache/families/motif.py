"""Motif-Video: guidance is left to the guider of the pipeline."""

from sencache.families.base import GUIDER_CALLS, Family

MOTIF_VIDEO = Family(
    name="motif_video",
    classes=("MotifVideoTransformer3DModel",),
    contexts=GUIDER_CALLS,
    per_row=(
        "hidden_states",
        "timestep",
        "encoder_hidden_states",
        "encoder_attention_mask",
        "image_embeds",
    ),
)
