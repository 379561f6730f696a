"""The facts of a calibration: for the profile, and to recognise the same calibration again."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch

from sencache.calibration.clips import ClipLatents
from sencache.families.base import Family
from sencache.families.registry import family_of
from sencache.pipelines import networks_of
from sencache.profiles.metadata import architecture_of, dtype_name, sampler_facts


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network of a pipeline that a calibration measures.

    Attributes:
        component: Attribute of the pipeline that holds it.
        module: The network.
        family: How to read its calls.
    """

    component: str
    module: torch.nn.Module
    family: Family


def measured_networks(
    pipe: Any, components: Sequence[str] | None = None, family: Family | None = None
) -> tuple[MeasuredNetwork, ...]:
    """The networks of a pipeline to measure, in the order in which they run.

    Args:
        pipe: A diffusers pipeline.
        components: Attributes that hold them; None takes those of transformer and transformer_2
            that the pipeline has.
        family: Family of all of them; None looks each up.

    Raises:
        ValueError: There is none, one is cached or of an unknown class, or they are of several
            families.
    """
    if components is None:
        components = list(networks_of(pipe))
    networks = []
    for name in components:
        module = getattr(pipe, name, None)
        if module is None:
            raise ValueError(f"the pipeline has no component {name!r}")
        if getattr(module, "_cache_config", None) is not None:
            raise ValueError(f"a cache is applied to the {name}; calibrate without it")
        networks.append(MeasuredNetwork(name, module, family or family_of(module)))
    if len({network.family.name for network in networks}) != 1:
        found = ", ".join(f"{network.component} {network.family.name}" for network in networks)
        raise ValueError(f"a profile is of networks of one family; the pipeline has: {found}")
    return tuple(networks)


def run_facts(
    pipe: Any,
    networks: Sequence[MeasuredNetwork],
    options: Mapping[str, Any],
    model: str | None,
    revision: str,
    clips: ClipLatents | None,
) -> dict[str, Any]:
    """The fields of the metadata that are known before sampling starts."""
    if model is None:
        model = getattr(getattr(pipe, "config", None), "_name_or_path", None) or ""
    arguments = ("guidance_scale", "height", "width", "num_frames")
    architectures = dict.fromkeys(architecture_of(network.module) for network in networks)
    return {
        "model": model,
        "revision": revision,
        "family": networks[0].family.name,
        "architecture": "+".join(architectures),
        "inputs": "sampled" if clips is None else "clips",
        **sampler_facts(pipe.scheduler),
        **{name: _argument(pipe, options, name) for name in arguments},
    }


def fingerprint(
    facts: Mapping[str, Any],
    networks: Sequence[MeasuredNetwork],
    pipe: Any,
    options: Mapping[str, Any],
    prompts: Sequence[str],
    seeds: Sequence[int],
    batch_size: int,
    clips: ClipLatents | None,
) -> dict[str, Any]:
    """Everything that decides a calibration's numbers, but the weights, as JSON values.

    Long values are replaced by their hash. Readable facts come first, so that an error names the
    difference that a person understands.
    """
    dtypes = [getattr(network.module, "dtype", None) for network in networks]
    return {
        **facts,
        "num_inference_steps": _argument(pipe, options, "num_inference_steps"),
        "components": [network.component for network in networks],
        "dtype": [dtype and dtype_name(dtype) for dtype in dtypes],
        "seeds": list(seeds),
        "batch_size": batch_size,
        "prompts": _digest(list(prompts)),
        "clips": "" if clips is None else _digest(clips.values),
        "scheduler": _digest(_public(pipe.scheduler.config)),
        "call_kwargs": _digest(dict(options)),
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    }


def _argument(pipe: Any, options: Mapping[str, Any], name: str) -> Any:
    """Value of an argument of the pipeline's call: as given, else its default, else None."""
    parameter = inspect.signature(pipe.__call__).parameters.get(name)
    default = (
        None if parameter is None or parameter.default is parameter.empty else parameter.default
    )
    return options.get(name, default)


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    """A JSON value that tells an argument from any other: by content for tensors and images."""
    if isinstance(value, torch.Tensor):
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return [str(value.dtype), list(value.shape), hashlib.sha256(content).hexdigest()]
    if hasattr(value, "tobytes"):  # images of PIL, arrays of NumPy
        size = [str(getattr(value, name, "")) for name in ("mode", "dtype", "size", "shape")]
        return [*size, hashlib.sha256(value.tobytes()).hexdigest()]
    if callable(value):  # its repr holds its address in memory
        return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else ""
    return repr(value)
