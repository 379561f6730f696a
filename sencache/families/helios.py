"""Helios: a clip in chunks, each of which sees those before it."""

from sencache.families.base import TWO_CALLS, Family

HELIOS = Family(
    name="helios",
    classes=("HeliosTransformer3DModel",),
    contexts=TWO_CALLS,
    per_row=(
        "hidden_states",
        "timestep",
        "encoder_hidden_states",
        "latents_history_short",
        "latents_history_mid",
        "latents_history_long",
    ),
    chunked=True,
)
