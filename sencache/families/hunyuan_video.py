"""HunyuanVideo: embedded guidance, or two calls with true guidance."""

from sencache.families.base import TWO_CALLS, Family

HUNYUAN_VIDEO = Family(
    name="hunyuan_video",
    classes=("HunyuanVideoTransformer3DModel",),
    contexts=TWO_CALLS,  # with true guidance; the image-to-video pipeline opens no context
    per_row=(
        "hidden_states",
        "timestep",
        "encoder_hidden_states",
        "encoder_attention_mask",
        "pooled_projections",
        "guidance",
    ),
    blocks=("transformer_blocks", "single_transformer_blocks"),
)
