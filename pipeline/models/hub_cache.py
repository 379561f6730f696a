"""Says before a run starts that the weights of a Hub model cannot be had on this machine.

Without this, every process of the run would find it out by itself, each with a long traceback.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pipeline.errors import UserError
from pipeline.models.spec import ResolvedModel

TIMEOUT_S = 10.0
_FILE = "model_index.json"
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_CLUSTER = ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR")
"""Environment variables of which one is set on a cluster, whose nodes have caches of their own."""


def check_available(model: ResolvedModel, environment: Mapping[str, str] = os.environ) -> None:
    """Make sure that a Hub model is cached here or can be downloaded; nothing on a cluster.

    Raises:
        UserError: It is not, in one line that says what to do.
    """
    if model.location != model.spec.hub_id or any(map(environment.get, _CLUSTER)):
        return
    from huggingface_hub import (
        get_hf_file_metadata,
        hf_hub_url,
        try_to_load_from_cache,
    )

    repo, revision = model.location, model.revision
    if isinstance(try_to_load_from_cache(repo, _FILE, revision=revision), str):
        return
    name = f"the weights of {model.spec.name} ({repo}, {revision[:12]})"
    todo = (
        "download them where there is a network "
        f"(`hf download {repo} --revision {revision}`), or give --model-path"
    )
    for variable in _OFFLINE:
        if environment.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            raise UserError(f"{name} are not cached here and {variable} is set: {todo}")
    try:
        get_hf_file_metadata(hf_hub_url(repo, _FILE, revision=revision), timeout=TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - of the Hub's client, the network or the proxy
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{name} are not cached here and cannot be downloaded ({text}): {todo}"
        ) from None
