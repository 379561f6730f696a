"""Loading: a resolved model becomes a diffusers pipeline on a device.

Runs inside the worker. Loads safetensors only and never runs code from a model's repository. Knows
nothing of requests or caching. Written against diffusers 0.42.
"""

from __future__ import annotations

import inspect
import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.models.adapters import add_adapters
from pipeline.models.catalogue.safety_checker import NoSafetyChecker
from pipeline.models.catalogue.saved_pipeline import INDEX
from pipeline.models.engine_options import DEFAULT, EngineOptions
from pipeline.models.quantisation.quantise import quantise_network, quiet_libraries
from pipeline.models.resolve import is_remote
from pipeline.models.spec import ModelSpec, PipelineClass, ResolvedModel
from pipeline.models.weights import node_copy
from sencache import family_of, networks_of, register_family

if TYPE_CHECKING:
    import torch

DIFFUSERS_ATTENTION = {
    "sdpa_flash": "_native_flash",
    "cudnn": "_native_cudnn",
    "flash": "flash",
    "flash3": "_flash_3",
}
"""diffusers' name of each kernel of `pipeline.config.sections.Attention`."""

DTYPES = ("float32", "bfloat16", "float16")


def load_pipeline(
    model: ResolvedModel,
    device: str,
    dtype: str = "",
    *,
    options: EngineOptions = DEFAULT,
    network_class: type[torch.nn.Module] | None = None,
) -> Any:
    """Load a model.

    A local folder is used in place; a mirror is copied to this node once; the Hub's cache is the
    Hub client's own, so `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they always do.

    Args:
        model: From `resolve_model`.
        device: Torch device, such as `cuda`, `cuda:1` or `cpu`.
        dtype: Torch dtype name; "" takes the model's own on a GPU and float32 on a CPU.
        options: Further settings; a `network_class` chooses its attention kernel itself.
        network_class: Class to load the denoising networks as, instead of the saved one.

    Returns:
        A diffusers pipeline of the spec's class, on the device, silent.

    Raises:
        UserError: The weights are missing on this node, incomplete, or not safetensors; or they do
            not fit into the device's memory.
        StorageError: A mirror cannot be read.
    """
    import diffusers
    import torch
    import transformers

    quiet_libraries()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("diffusers.pipelines.pipeline_utils").addFilter(_says_more_than_the_error)
    pipeline_class = _pipeline_type(model.spec.pipeline)
    source, at = _source(model)
    at |= straight_to(device, options)
    dtypes = _dtypes(model.spec, device, dtype)
    try:
        networks = {}
        if network_class is not None:
            networks = _networks(pipeline_class, network_class, source, at, dtypes)
        pipe = pipeline_class.from_pretrained(
            source,
            dtype=dtypes,
            use_safetensors=True,
            **networks,
            **_unchecked(model.spec.pipeline, options),
            **_left_out(pipeline_class, model.parts),
            **at,
        )
        add_adapters(pipe, options.adapters)
        if options.quantise != "none":
            for network in networks_of(pipe).values():
                quantise_network(network, options.quantise, torch.device(device))
        _place(pipe, device, options)
    except UserError:
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{model.spec.name} does not fit into the memory of {device}: use a GPU with more, or "
            "a smaller --dtype"
        ) from error
    except Exception as error:  # torn, foreign or mismatched files raise a dozen different types
        raise UserError(_explain(model, error)) from error
    pipe.set_progress_bar_config(disable=True)
    if model.parts != "text":
        _tune(pipe, model.spec, options, own_attention=network_class is not None)
    return pipe


def _pipeline_type(pipeline: PipelineClass) -> Any:
    """The Python class of a pipeline, and its networks made known to the cache.

    Raises:
        UserError: There is no such class.
    """
    import diffusers

    if pipeline.cache_family is not None:
        register_family(pipeline.cache_family)
    module, colon, name = pipeline.name.rpartition(":")
    try:
        return getattr(import_module(module) if colon else diffusers, name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"pipeline class {pipeline.name}: {error}") from error


def _says_more_than_the_error(record: logging.LogRecord) -> bool:
    """Whether diffusers' log says something that the error of a model without weights does not."""
    return not record.getMessage().startswith("Couldn't connect to the Hub")


def straight_to(device: str, options: EngineOptions) -> dict[str, str]:
    """Arguments of `from_pretrained` that read weights straight into a GPU's memory.

    Otherwise each process holds all weights in host memory before it moves them, and those of a
    node begin at the same time. Quantised weights are made on the host first, and offloaded parts
    stay there. A device with a number is not what diffusers 0.42 takes here: such a process moves
    its weights.
    """
    if device != "cuda" or options.offload != "none" or options.quantise != "none":
        return {}
    return {"device_map": device}


def _place(pipe: Any, device: str, options: EngineOptions) -> None:
    """Move the parts to the device, or set their offloading up."""
    if options.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif options.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)


def _tune(pipe: Any, spec: ModelSpec, options: EngineOptions, *, own_attention: bool) -> None:
    """Apply tiling, slicing, the attention kernel and compilation."""
    if options.tiles(spec) and pipe.vae is not None:
        pipe.vae.enable_tiling()
    if options.vae_slicing and hasattr(pipe.vae, "enable_slicing"):
        pipe.vae.enable_slicing()
    for network in networks_of(pipe).values():
        loaded: Any = network
        if options.attention not in ("auto", "sdpa") and not own_attention:
            _set_attention(loaded, spec, options.attention)
        if options.compile:
            # Block by block: the cache decides outside of the blocks, and all share one graph.
            for blocks in family_of(network).blocks:
                for block in getattr(loaded, blocks):
                    block.compile()


def _set_attention(network: Any, spec: ModelSpec, attention: str) -> None:
    """Choose the kernel of one network.

    diffusers' own `set_attention_backend` would choose it for the whole process.
    """
    from diffusers.models import attention_dispatch

    backend = attention_dispatch.AttentionBackendName(DIFFUSERS_ATTENTION[attention])
    try:
        attention_dispatch._check_attention_backend_requirements(backend)
    except (RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--engine.attention {attention} cannot be used here: {reason}") from error
    for name, module in network.named_modules():
        if name.endswith(spec.family.default_attention):
            continue
        if hasattr(getattr(module, "processor", None), "_attention_backend"):
            module.processor._attention_backend = backend


def _networks(
    pipeline_class: Any,
    network_class: Any,
    source: str,
    at: dict[str, Any],
    dtypes: dict[str, torch.dtype],
) -> dict[str, Any]:
    """The networks of a saved pipeline, by attribute, loaded as another class."""
    saved = pipeline_class.load_config(source, **at)
    return {
        name: network_class.from_pretrained(
            source,
            subfolder=name,
            torch_dtype=dtypes.get(name, dtypes["default"]),
            use_safetensors=True,
            **at,
        )
        for name in ("transformer", "transformer_2")
        if (saved.get(name) or [None])[0] is not None
    }


def _unchecked(pipeline: PipelineClass, options: EngineOptions) -> dict[str, Any]:
    """The part that stands in for a safety checker that the user turned off."""
    if options.safety_checker == "own" or not pipeline.safety_checker:
        return {}
    return {"safety_checker": NoSafetyChecker()}


def _left_out(pipeline_class: type, parts: str) -> dict[str, None]:
    """Components that this process does not load, as arguments of `from_pretrained`."""
    if parts == "all":
        return {}
    texts, images = ("text_encoder", "tokenizer"), ("vae", "image_encoder")
    left_out = {
        "clips": texts,
        "text": ("transformer", *images),
        "networks": (*texts, *images, "image_processor"),
    }
    names = left_out[parts]
    components = inspect.signature(pipeline_class).parameters
    return {name: None for name in components if name.startswith(names)}


def _source(model: ResolvedModel) -> tuple[str, dict[str, Any]]:
    """Arguments of `from_pretrained`: the location, and the commit or that the files are local."""
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
    """Precision of each part, by its attribute; `default` for all others."""
    import torch

    name = dtype or spec.own_dtype(device)
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is not one of {', '.join(DTYPES)}")
    return {part: getattr(torch, own) for part, own in spec.family.precision(name).items()}


def _explain(model: ResolvedModel, error: Exception) -> str:
    reason = " ".join(str(error).split())
    text = f"cannot load {model.spec.name} from {model.location}: {reason}"
    if model.location != model.spec.hub_id:
        return text
    return (
        f"{text} (without internet: download {model.location} at {model.revision} beforehand, "
        "or give --model-path)"
    )
