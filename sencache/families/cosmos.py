"""Cosmos 1, 2 and 2.5: two calls per step; each version hands the network another form of time.

Version 1 gives it log(sigma) / 4, version 2 sigma / (1 + sigma), and version 2.5 sigma.
"""

from sencache.families.base import TWO_CALLS, Family

COSMOS = Family(
    name="cosmos",
    classes=("CosmosTransformer3DModel",),
    contexts=TWO_CALLS,
    per_row=(
        "hidden_states",
        "timestep",
        "encoder_hidden_states",
        "attention_mask",
        "condition_mask",
    ),
    unnamed=("cond", "uncond"),
    clock="sampler",
)
