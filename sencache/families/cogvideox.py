"""CogVideoX: text- and image-to-video."""

from sencache.families.base import ONE_CALL, Family, OfficialSettings

COGVIDEOX = Family(
    name="cogvideox",
    classes=("CogVideoXTransformer3DModel",),
    contexts=ONE_CALL,
    per_row=("hidden_states", "encoder_hidden_states", "timestep", "timestep_cond", "ofs"),
    channel_dim=2,  # frames come first
    blocks=("transformer_blocks",),
    # Scale: latents of 16x14x60x90 elements.
    official=OfficialSettings(0.07, 0.005, 10, 1099.8181667894016, forced_ends=1),
)
