"""Lets xfuser 0.7 run on CPU ranks over gloo, so that its own code is tested where no GPU is.

All of it is about the choice of devices. Without the first two xfuser silently runs with a Ulysses
degree of 1: every rank attends to its own tokens only. For a ring, an attention is needed that also
returns the logarithm of the softmax's sum; on a CPU torch has one under another name.
"""

from __future__ import annotations

from typing import Any

import torch


def install() -> None:
    """Call it in a rank before anything else imports xfuser."""
    import xfuser.envs as envs

    envs.PACKAGES_CHECKER.packages_info["has_long_ctx_attn"] = True
    envs.get_device = lambda local_rank=0: torch.device("cpu")
    import xfuser.config.config as config
    import xfuser.core.distributed.group_coordinator as coordinator
    import xfuser.core.distributed.parallel_state as parallel_state
    import yunchang.globals as yunchang
    from xfuser.core.distributed.attention_backend import (
        ATTENTION_FUNCTION_REGISTRY,
        AttentionBackendType,
    )
    from xfuser.model_executor.layers import usp

    for module in (coordinator, parallel_state, config):
        module.HAS_LONG_CTX_ATTN = True
    parallel_state.set_device = lambda *_: None
    usp.PROCESS_GROUP = yunchang.PROCESS_GROUP
    ATTENTION_FUNCTION_REGISTRY[AttentionBackendType.SDPA_FLASH] = flash


def flash(query: Any, key: Any, value: Any, dropout_p: float, is_causal: bool, **_: Any) -> Any:
    """Flash attention of a CPU: outputs and logarithms of sums, [rows, heads, tokens, ...]."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal
    )
