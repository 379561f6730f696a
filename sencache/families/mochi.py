"""Mochi: both branches of guidance in one call, and a time that rises."""

from sencache.families.base import ONE_CALL, Family

MOCHI = Family(
    name="mochi",
    classes=("MochiTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask"),
    time_rises=True,
    blocks=("transformer_blocks",),
)
