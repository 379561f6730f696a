"""LoRA adapters: `URI[@WEIGHT]` from the configuration into weights inside the networks.

An adapter is one safetensors file: local, at any fsspec URI, in a repository of the Hub
(`hf://OWNER/REPOSITORY[@COMMIT]/FILE`), or shipped with this package (`shipped:FILE`). The driver
hashes it once. Its hash and weight are part of every sample's identity; its URI is not. Workers
check the hash again. The adapter is merged into the networks when a model is loaded, so it costs
nothing per step.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import StorageError, UserError
from pipeline.storage.storage import locate

SUFFIX = ".safetensors"
SECOND = "#transformer_2"
"""Suffix of a URI: the adapter is for the second network of a model with two (Wan 2.2 A14B)."""

REVISION_DIGITS = 16

HUB, SHIPPED = "hf://", "shipped:"
"""How the URI of a file begins that is in a repository of the Hub, or in this package."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter of a run.

    Attributes:
        uri: Where its file is.
        weight: Scale of the adapter.
        revision: First 16 hex digits of the file's SHA-256.
        second: Whether it is for the second network.
    """

    uri: str
    weight: float
    revision: str
    second: bool = False

    @property
    def identity(self) -> str:
        """What decides pixels, in the form of `SampleRequest.adapters`."""
        return f"{self.revision}{SECOND if self.second else ''}@{self.weight:g}"


def resolve_adapters(given: Sequence[str]) -> tuple[Adapter, ...]:
    """Read and hash the adapters of a configuration, on the driver.

    Args:
        given: `URI[#transformer_2][@WEIGHT]` each; the weight is 1 where it is left out.

    Returns:
        Those that change something: an adapter of weight 0 is checked like the others, then left
        out, so that it changes no id either.

    Raises:
        UserError: A weight is not a number, or a file is missing or of another kind.
    """
    return tuple(adapter for text in given if (adapter := _resolve(text)).weight)


def _resolve(text: str) -> Adapter:
    where, weight = text, 1.0
    head, at, tail = text.rpartition("@")
    if at and "/" not in tail:
        try:
            where, weight = head, float(tail)
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            raise UserError(f"--engine.adapters {text}: {tail!r} is not a weight; use URI@0.8")
    uri = where.removesuffix(SECOND)
    if not uri.endswith(SUFFIX):
        raise UserError(f"--engine.adapters {text}: give a {SUFFIX} file; no other kind is loaded")
    return Adapter(uri, weight, _digest(_read(uri)), uri != where)


def add_adapters(pipe: Any, adapters: Sequence[Adapter]) -> None:
    """Merge adapters into the networks of a loaded pipeline; they cannot be removed again.

    Raises:
        UserError: A file is missing, was replaced, or does not fit the network.
    """
    if not adapters:
        return
    from safetensors.torch import load

    names = [f"adapter_{number}" for number in range(len(adapters))]
    for name, adapter in zip(names, adapters, strict=True):
        data = _read(adapter.uri)
        if _digest(data) != adapter.revision:
            raise UserError(f"{adapter.uri} was replaced since the run began: start a new run")
        second = {"load_into_transformer_2": True} if adapter.second else {}
        try:
            pipe.load_lora_weights(load(data), adapter_name=name, **second)
        except Exception as error:  # foreign or mismatched files raise a dozen different types
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"--engine.adapters {adapter.uri}: {reason}") from error
        network = pipe.transformer_2 if adapter.second else pipe.transformer
        if name not in getattr(network, "peft_config", {}):
            raise UserError(
                f"--engine.adapters {adapter.uri}: holds no layer of {type(network).__name__}"
            )
    for part in ("transformer", "transformer_2"):
        network = getattr(pipe, part, None)
        own = {
            name: adapter.weight
            for name, adapter in zip(names, adapters, strict=True)
            if adapter.second == (part == "transformer_2")
        }
        if network is not None and own:
            network.set_adapters(list(own), list(own.values()))
            network.fuse_lora(adapter_names=list(own))
    pipe.unload_lora_weights()


def _read(uri: str) -> bytes:
    if uri.startswith(SHIPPED):  # the same on every node, wherever the package is
        path = Path(__file__).parent / uri.removeprefix(SHIPPED)
        if not path.is_file():
            raise UserError(f"--engine.adapters {uri}: no such file is shipped")
        return path.read_bytes()
    if uri.startswith(HUB):
        return _from_hub(uri)
    storage, name = locate(uri)
    try:
        return storage.read_bytes(name)
    except StorageError as error:
        raise UserError(f"--engine.adapters {uri}: {error}") from error


def _from_hub(uri: str) -> bytes:
    """Read a file of the Hub by way of the Hub client's cache, so `HF_HUB_OFFLINE` works."""
    from huggingface_hub import hf_hub_download

    owner, _, rest = uri.removeprefix(HUB).partition("/")
    repository, _, name = rest.partition("/")
    repository, _, commit = repository.partition("@")
    if not (owner and repository and name):
        raise UserError(
            f"--engine.adapters {uri}: write {HUB}OWNER/REPOSITORY[@COMMIT]/FILE{SUFFIX}"
        )
    try:
        path = hf_hub_download(f"{owner}/{repository}", name, revision=commit or None)
    except Exception as error:  # of the Hub's client, the network or the proxy
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"--engine.adapters {uri}: {reason} (without internet: download the file and give its "
            "path)"
        ) from error
    return Path(path).read_bytes()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:REVISION_DIGITS]
