"""The file of a clip's tensors: its name, its content as a row tells it, and its checks.

A file is safetensors with `latents`, `trajectory` and `trajectory_timesteps`, and the text
embeddings under the names that diffusers' calls have for them. Its metadata has one key,
`META_KEY`, whose value is a JSON object: with one key the same tensors always give the same bytes.
The name of a file contains a hash of its content, so another worker that makes the same clip never
replaces what a row refers to.

Imports neither torch nor diffusers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import StorageError
from pipeline.storage.storage import Storage

LATENTS, TEXT_EMBEDS, TRAJECTORY = "latents", "text_embeds", "trajectory"
TRAJECTORY_TIMESTEPS = "trajectory_timesteps"
"""Times of the states of a trajectory, in its file."""
KINDS = (LATENTS, TEXT_EMBEDS, TRAJECTORY)
"""What `--save` can name, in the order in which rows name it."""

META_KEY = "sencache"
FORMAT = "sencache-tensors/1"
FOLDER = "tensors/"
"""Folder of the files inside a prefix."""

_HEADER_BYTES = 8
_MOST_HEADER = 100_000_000  # as the safetensors library has it
_HASH_DIGITS = 12

TensorsStruct = dict[str, Any]
"""The `tensors` struct of a row (`pipeline.dataset.struct_columns`)."""


class DamagedTensorsError(Exception):
    """The tensors of a row are missing, or they are not those that the row says."""


def tensors_key(sample_id: str, sha256: str) -> str:
    """Path of a clip's tensors inside the output prefix."""
    return f"{FOLDER}{sample_id[:2]}/{sample_id}-{sha256[:_HASH_DIGITS]}.safetensors"


def tensors_struct(sample_id: str, data: bytes) -> TensorsStruct:
    """What a row says of a file.

    Raises:
        ValueError: It is no such file.
    """
    header = _header(data)
    about = json.loads(header["__metadata__"][META_KEY])
    latents = header.get(LATENTS, {})
    sha256 = hashlib.sha256(data).hexdigest()
    return {
        "path": tensors_key(sample_id, sha256),
        "bytes": len(data),
        "sha256": sha256,
        "saved": ",".join(kind for kind in KINDS if kind in about),
        "latents_dtype": latents.get("dtype", ""),
        "latents_shape": latents.get("shape", []),
        "normalised": about[LATENTS]["normalised"] if LATENTS in about else None,
    }


def about_tensors(data: bytes) -> dict[str, Any]:
    """What a file says of its tensors besides their types and shapes.

    Raises:
        ValueError: It is no such file.
    """
    about: dict[str, Any] = json.loads(_header(data)["__metadata__"][META_KEY])
    return about


def read_tensors(storage: Storage, row: Mapping[str, Any]) -> bytes | None:
    """Return the file of a row's tensors; None for a row without tensors.

    Args:
        storage: The output prefix.
        row: A row with its `tensors`; rows of older versions have no such column.

    Raises:
        DamagedTensorsError: The file is missing, or not as the row says.
        StorageError: The store cannot be read; nothing is known of the file.
    """
    said = row.get("tensors")
    if not said:
        return None
    path = said["path"]
    try:
        data = storage.read_bytes(path)
    except StorageError as error:
        if error.__cause__ is None:
            problem = "its row names tensors outside of the prefix"
            raise DamagedTensorsError(problem) from error
        if isinstance(error.__cause__, FileNotFoundError | IsADirectoryError | NotADirectoryError):
            raise DamagedTensorsError(f"{path} is missing") from error
        raise
    if hashlib.sha256(data).hexdigest() != said["sha256"]:
        raise DamagedTensorsError(f"{path} has another SHA-256 than its row says")
    return data


def saves(saved: str | None, wanted: Sequence[str]) -> bool:
    """Whether the `saved` of a row covers some kinds."""
    return set(wanted) <= set((saved or "").split(","))


def _header(data: bytes) -> dict[str, Any]:
    size = int.from_bytes(data[:_HEADER_BYTES], "little")
    if not 0 < size <= min(_MOST_HEADER, len(data) - _HEADER_BYTES):
        raise ValueError("not a safetensors file")
    found = json.loads(data[_HEADER_BYTES : _HEADER_BYTES + size])
    if META_KEY not in found.get("__metadata__", {}):
        raise ValueError("a safetensors file that this pipeline did not write")
    header: dict[str, Any] = found
    return header
