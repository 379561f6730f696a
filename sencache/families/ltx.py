"""LTX-Video, and LTX-2 with its sound."""

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

LTX2 = Family(
    name="ltx2",
    classes=("LTX2VideoTransformer3DModel",),
    contexts={**ONE_CALL, "uncond_stg": ("perturbed",), "uncond_modality": ("perturbed",)},
    per_row=(
        *LTX.per_row,
        "audio_hidden_states",
        "audio_encoder_hidden_states",
        "audio_encoder_attention_mask",
        "audio_timestep",
        "sigma",
        "audio_sigma",
        "audio_coords",
        "perturbation_mask",
        "video_self_attention_mask",
        "video_keyframes_mask",
    ),
    moving=("audio_hidden_states", "audio_timestep", "sigma", "audio_sigma"),
    channel_dim=-1,
)
