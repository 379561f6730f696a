"""From a model's name to its weights: where they are, and their revision.

Runs once, on the driver, before any worker starts. It reads as little as possible: nothing for a
pinned Hub model, a local folder once per process, and the digests that a mirror states. Loads no
torch.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from pipeline.errors import UserError
from pipeline.models.registry import get_model, shipped_folder
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.models.weights import folder_digests, mirror_digests, revision_of
from pipeline.storage.places import host_note
from pipeline.storage.storage import Storage

INDEX = "model_index.json"
"""The file that every saved diffusers pipeline has."""


def resolve_model(name: str, model_path: str = "") -> ResolvedModel:
    """Find a model's weights and fix their revision.

    Args:
        name: Registry name.
        model_path: "" for the registry's own place (the Hub, or this package for the demo); else a
            local folder or an `s3://` (any fsspec) prefix that holds the saved pipeline.

    Returns:
        Location and revision: a commit for the Hub, a content hash for files.

    Raises:
        UserError: The name is unknown, or there is no saved pipeline, or one of another class.
        StorageError: The prefix cannot be read.
    """
    spec = get_model(name)
    if not model_path and spec.hub_id:
        return ResolvedModel(spec, spec.hub_id, spec.revision)
    if not model_path and not shipped_folder(spec).is_dir():
        raise UserError(
            f"--model {spec.name} has no pinned revision in the registry: download its weights in "
            "the layout of diffusers and give the folder, or a mirror of it, as --model-path"
        )
    path = model_path or str(shipped_folder(spec) / "weights")
    if is_remote(path):
        return _resolve_mirror(spec, path)
    folder = Path(path.removeprefix("file://")).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(
            f"model_path {path}{host_note(path)}: no such folder; give a folder with {INDEX}, "
            f"an s3:// prefix, or nothing to take {spec.hub_id or 'the shipped weights'}"
        )
    index = folder / INDEX
    _check_index(spec, index.read_text() if index.is_file() else None, path)
    return ResolvedModel(spec, str(folder), _folder_revision(folder))


def is_remote(location: str) -> bool:
    """Whether a path names an object store, not a folder of this machine."""
    return "://" in location and not location.startswith("file://")


def _resolve_mirror(spec: ModelSpec, uri: str) -> ResolvedModel:
    storage = Storage(uri)
    digests = mirror_digests(storage)
    text = storage.read_bytes(INDEX).decode() if INDEX in digests else None
    _check_index(spec, text, uri)
    return ResolvedModel(spec, storage.uri, revision_of(digests))


@functools.cache
def _folder_revision(folder: Path) -> str:
    return revision_of(folder_digests(folder))


def _check_index(spec: ModelSpec, text: str | None, where: str) -> None:
    """Refuse a folder that is not a saved pipeline, or is one of another class."""
    if text is None:
        raise UserError(
            f"model_path {where} is not a saved diffusers pipeline: it has no {INDEX} "
            "(checkpoints in another layout must be converted first)"
        )
    try:
        found = json.loads(text)["_class_name"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise UserError(f"model_path {where}: {INDEX} does not name a pipeline class") from None
    if found not in (spec.pipeline.name, *spec.pipeline.saved_as):
        raise UserError(
            f"model_path {where} holds a {found}, but {spec.name} is a {spec.pipeline.name}: "
            "give the --model that these weights belong to"
        )
