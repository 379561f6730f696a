"""LTX-Video: text- and image-to-video."""

from sencache.families.base import ONE_CALL, Family, OfficialSettings

LTX = Family(
    name="ltx",
    classes=("LTXVideoTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=(
        "hidden_states",
        "encoder_hidden_states",
        "timestep",
        "encoder_attention_mask",
        "video_coords",
    ),
    channel_dim=-1,  # latents are packed to [rows, tokens, channels]
    blocks=("transformer_blocks",),
    # Scale: latents of 128x21x16x24 elements.
    official=OfficialSettings(
        0.7, 0.01, 4, 1015.9685034488028, forced_fraction=0.02, residual_end="proj_out"
    ),
)
