"""From a model's name to its weights: where they are, and their revision.

Runs once, on the driver, before any worker starts. It reads as little as possible: nothing for a
pinned Hub model, a local folder once per process, and the digests that a mirror states. Loads no
torch.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.models.catalogue.matching import spec_of
from pipeline.models.catalogue.saved_pipeline import (
    HUB_ID,
    INDEX,
    SavedPipeline,
    read_folder,
    read_hub,
)
from pipeline.models.catalogue.saved_sizes import text_length_of
from pipeline.models.catalogue.spec_file import GivenModel, given_model
from pipeline.models.registry import MODELS, get_model, shipped_folder
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.models.weights import folder_digests, mirror_digests, revision_of
from pipeline.storage.places import host_note
from pipeline.storage.storage import Storage

if TYPE_CHECKING:
    from pipeline.config.run_config import RunConfig


@dataclasses.dataclass(frozen=True)
class _Found:
    """Weights at their place.

    Attributes:
        saved: What their configurations say.
        location: As `ResolvedModel` has it.
        revision: Commit or content hash.
        hub_id: Their repository, "" for files.
    """

    saved: SavedPipeline
    location: str
    revision: str
    hub_id: str = ""


def model_of(config: RunConfig) -> ResolvedModel:
    """Find the model of a run.

    Raises:
        UserError: As `resolve_model`.
        StorageError: The prefix cannot be read.
    """
    return resolve_model(
        config.model, config.model_path, config.model_spec, shown_as=config.model_name
    )


def resolve_model(
    name: str, model_path: str = "", description: str = "", *, shown_as: str = ""
) -> ResolvedModel:
    """Find a model's weights and fix their revision.

    Args:
        name: Registry name; "" for whatever the path holds.
        model_path: "" for the registry's own place (the Hub, or this package for the demo); else a
            local folder, a Hub repository `org/name[@revision]`, or an `s3://` (any fsspec) prefix
            that holds the saved pipeline.
        description: A `--model-spec`: file or `module:attribute`; "" without one.
        shown_as: Name in rows of a model that the registry does not name; "" for its own.

    Returns:
        Location and revision: a commit for the Hub, a content hash for files.

    Raises:
        UserError: The name is unknown, or there is no saved pipeline, or one of another class, or
            of a class that nothing here can run.
        StorageError: The prefix cannot be read.
    """
    given = given_model(description) if description else None
    if given is not None or not name:
        return _unnamed(model_path, given, shown_as)
    if shown_as:
        raise UserError(
            f"--model-name {shown_as}: {name} is a name of the registry, and rows have it; leave "
            "--model out to have --model-path described by itself"
        )
    spec = get_model(name)
    if not model_path and spec.hub_id:
        return ResolvedModel(spec, spec.hub_id, spec.revision)
    if not model_path and not shipped_folder(spec).is_dir():
        raise UserError(
            f"--model {spec.name} has no pinned revision in the registry: add --model-path "
            f"{spec.published_as} (read at its main branch, whose commit is part of every id), a "
            "folder with its weights in the layout of diffusers, or a mirror of it"
        )
    found = _find(model_path or str(shipped_folder(spec) / "weights"), spec.hub_id)
    _check_class(spec, found.saved)
    spec = dataclasses.replace(spec, text_length=text_length_of(found.saved.configs))
    if found.hub_id:
        spec = dataclasses.replace(spec, hub_id=found.hub_id)
    return ResolvedModel(spec, found.location, found.revision)


def is_remote(location: str) -> bool:
    """Whether a path names an object store, not a folder of this machine."""
    return "://" in location and not location.startswith("file://")


def _unnamed(path: str, given: GivenModel | None, shown_as: str) -> ResolvedModel:
    """A model that the registry does not name: what its files and its user say of it."""
    if given is not None and given.spec is not None and not path:
        spec = given.spec
        if not spec.hub_id:
            raise UserError(f"--model-spec: {spec.name} names no repository: give --model-path")
        return ResolvedModel(spec, spec.hub_id, spec.revision)
    if not path and given is None:
        raise UserError("--model is empty: give a name that --list-models shows, or --model-path")
    if not path:
        raise UserError("--model-spec describes a model; give --model-path, where its weights are")
    if given is None and (known := _registered(path)) is not None:
        note = f"{path} is {known.name} of the registry, at {known.revision[:12]}"
        return ResolvedModel(known, known.hub_id, known.revision, notes=(note,))
    found = _find(path, "")
    notes: tuple[str, ...] = ()
    if given is not None and given.spec is not None:
        spec = given.spec
    else:
        name = shown_as or (given.name if given else "")
        spec, notes = spec_of(found.saved, name, given.pipeline if given else None)
    if given is not None:
        spec = given.applied(spec)
    spec = dataclasses.replace(spec, hub_id=found.hub_id, revision=found.revision)
    return ResolvedModel(spec, found.location, found.revision, notes=notes)


def _registered(path: str) -> ModelSpec | None:
    """The registered model of a Hub repository at its pinned commit."""
    match = None if Path(path).expanduser().is_dir() else HUB_ID.fullmatch(path)
    for spec in MODELS.values():
        if match and match["repo"] == spec.hub_id and match["revision"] in (None, spec.revision):
            return spec
    return None


def _find(path: str, else_hub: str) -> _Found:
    """Find a saved pipeline in a folder, a mirror or a repository."""
    if is_remote(path):
        return _find_mirror(path)
    folder = Path(path.removeprefix("file://")).expanduser().absolute()
    if folder.is_dir():
        saved = read_folder(folder, path)
        return _Found(saved, str(folder), _folder_revision(folder))
    if match := HUB_ID.fullmatch(path):
        saved, commit = read_hub(match["repo"], match["revision"] or "")
        return _Found(saved, match["repo"], commit, match["repo"])
    raise UserError(
        f"model_path {path}{host_note(path)}: no such folder; give a folder with {INDEX}, "
        f"an s3:// prefix, a Hub repository (org/name@revision), or nothing to take "
        f"{else_hub or 'the shipped weights'}"
    )


def _find_mirror(uri: str) -> _Found:
    storage = Storage(uri)
    digests = mirror_digests(storage)

    def text_of(path: str) -> str | None:
        return storage.read_bytes(path).decode() if path in digests else None

    name = storage.uri.rstrip("/").rpartition("/")[2]
    saved = SavedPipeline.read(uri, name, text_of)
    return _Found(saved, storage.uri, revision_of(digests))


@functools.cache
def _folder_revision(folder: Path) -> str:
    return revision_of(folder_digests(folder))


def _check_class(spec: ModelSpec, saved: SavedPipeline) -> None:
    """Refuse weights of another class."""
    if saved.class_name not in (spec.pipeline.name, *spec.pipeline.saved_as):
        raise UserError(
            f"model_path {saved.where} holds a {saved.class_name}, but {spec.name} is a "
            f"{spec.pipeline.name}: give the --model that these weights belong to, or none"
        )
