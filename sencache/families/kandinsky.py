"""Kandinsky 5, and 6 with its sound: latents with the channels last."""

from sencache.families.base import TWO_CALLS, Family

_PER_ROW = ("hidden_states", "timestep", "encoder_hidden_states", "pooled_projections")

KANDINSKY_5 = Family(
    name="kandinsky5",
    classes=("Kandinsky5Transformer3DModel",),
    contexts=TWO_CALLS,
    per_row=_PER_ROW,
    unnamed=("cond", "uncond"),
    channel_dim=-1,
    out_channels="out_visual_dim",
)

KANDINSKY_6 = Family(
    name="kandinsky6",
    classes=("Kandinsky6Transformer3DModel",),
    contexts=TWO_CALLS,
    per_row=(*_PER_ROW, "audio_hidden_states", "encoder_attention_mask", "visual_token_type_ids"),
    moving=("audio_hidden_states",),
    channel_dim=-1,
    out_channels="out_visual_dim",
)
