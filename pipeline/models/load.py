"""Weights into memory: a resolved model becomes a diffusers pipeline on a device.

Runs inside the worker. Safetensors only, and no code from a model's repository is ever run. Knows
the precision that each model's authors give to its parts; knows nothing of requests or caching.
Written against diffusers 0.42.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.models.resolve import INDEX, is_remote
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.models.weights import node_copy

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


def load_pipeline(model: ResolvedModel, device: str, dtype: str = "") -> Any:
    """Load a model.

    A local folder is used in place; a mirror is copied to this node once; the Hub's cache is the
    Hub client's own, so `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they always do.

    Args:
        model: From `resolve_model`.
        device: Torch device, such as `cuda`, `cuda:1` or `cpu`.
        dtype: Torch dtype name; "" takes the model's own on a GPU and float32 on a CPU.

    Returns:
        A diffusers pipeline of the spec's class, on the device, silent.

    Raises:
        UserError: The weights are not where the driver found them, incomplete, or not safetensors.
        StorageError: A mirror cannot be read.
    """
    import diffusers
    import torch
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    pipeline_class = getattr(diffusers, model.spec.pipeline_class)
    source, at = _source(model)
    try:
        pipe = pipeline_class.from_pretrained(
            source,
            dtype=_dtypes(model.spec, device, dtype),
            use_safetensors=True,
            **at,
        )
        pipe.to(device)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{model.spec.name} does not fit into the memory of {device}: use a GPU with more, or "
            "a smaller --dtype"
        ) from error
    except Exception as error:  # torn, foreign or mismatched files raise a dozen different types
        raise UserError(_explain(model, error)) from error
    pipe.set_progress_bar_config(disable=True)
    if model.spec.family == "hunyuan_video":
        # As the authors' example: 129 frames of 1280x720 decoded at once crowd out the network.
        pipe.vae.enable_tiling()
    return pipe


def _source(model: ResolvedModel) -> tuple[str, dict[str, Any]]:
    """What `from_pretrained` takes: a place, and the commit or that it is local."""
    if model.location == model.spec.hub_id:
        return model.location, {"revision": model.revision}
    if is_remote(model.location):
        return str(node_copy(model.location, model.revision)), {"local_files_only": True}
    if not (Path(model.location) / INDEX).is_file():
        raise UserError(
            f"{model.location} is not on this node: a model_path that is a folder must be the same "
            "on every node; use a shared file system or an s3:// prefix"
        )
    return model.location, {"local_files_only": True}


def _dtypes(spec: ModelSpec, device: str, dtype: str) -> dict[str, torch.dtype]:
    """Precision per component, after the authors' diffusers examples."""
    import torch

    name = dtype or (spec.dtype if device.startswith("cuda") else "float32")
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is not one of {', '.join(DTYPES)}")
    default: torch.dtype = getattr(torch, name)
    if spec.family == "wan":
        # As the authors' example: decoding in half precision costs visible quality.
        return {"default": default, "vae": torch.float32}
    if spec.family == "hunyuan_video" and default is torch.bfloat16:
        return {"default": torch.float16, "transformer": torch.bfloat16}
    return {"default": default}


def _explain(model: ResolvedModel, error: Exception) -> str:
    reason = " ".join(str(error).split())
    text = f"cannot load {model.spec.name} from {model.location}: {reason}"
    if model.location != model.spec.hub_id:
        return text
    return (
        f"{text} (without internet: download {model.location} at {model.revision} beforehand, "
        "or give --model-path)"
    )
