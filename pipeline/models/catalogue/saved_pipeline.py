"""The configurations of a saved pipeline, wherever it is: a folder, a mirror, a Hub repository.

Loads neither torch nor diffusers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

INDEX = "model_index.json"
"""The file that every saved diffusers pipeline has."""

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+))?")
"""`org/name` or `org/name@revision`."""

_CONFIGS = ("config.json", "scheduler_config.json")
_JSON_ONLY = [INDEX, *(f"*/{name}" for name in _CONFIGS)]


@dataclass(frozen=True)
class SavedPipeline:
    """What the files of a saved pipeline say.

    Attributes:
        where: The place as the user gave it, for messages.
        name: Own name of the folder or repository.
        index: Content of `model_index.json`.
        configs: Configuration of each part, by its name; parts without one are left out.
    """

    where: str
    name: str
    index: Mapping[str, Any]
    configs: Mapping[str, Mapping[str, Any]]

    @property
    def class_name(self) -> str:
        """Pipeline class that the index names."""
        found = self.index["_class_name"]  # a list of file and class for a class of a repository
        return str(found[-1] if isinstance(found, list) else found)

    def part_class(self, part: str) -> str:
        """Class of a part, "" where the pipeline has none."""
        found = self.index.get(part)
        named = isinstance(found, list) and len(found) == 2
        return str(found[1] or "") if named and isinstance(found, list) else ""

    @classmethod
    def read(cls, where: str, name: str, text_of: Callable[[str], str | None]) -> SavedPipeline:
        """Read the configurations.

        Args:
            where: The place as the user gave it.
            name: Own name of the folder or repository.
            text_of: From a path inside the pipeline to the text of that file, None if there is
                none.

        Raises:
            UserError: It is not a saved pipeline, or a configuration is no JSON.
        """
        index = index_of(text_of(INDEX), where)
        configs = {}
        for part in index:
            if part.startswith("_"):
                continue
            for file in _CONFIGS:
                if (text := text_of(f"{part}/{file}")) is not None:
                    configs[part] = _object(text, f"{where}/{part}/{file}")
                    break
        return cls(where, name, index, configs)


def read_folder(folder: Path, where: str = "", name: str = "") -> SavedPipeline:
    """Read the configurations in a folder.

    Raises:
        UserError: It is not a saved pipeline.
    """

    def text_of(path: str) -> str | None:
        file = folder / path
        return file.read_text() if file.is_file() else None

    return SavedPipeline.read(where or str(folder), name or folder.name, text_of)


def read_hub(repo: str, revision: str) -> tuple[SavedPipeline, str]:
    """Read the configurations of a Hub repository, from the cache where there is no network.

    Args:
        repo: `org/name`.
        revision: Commit, branch or tag; "" for the main branch.

    Returns:
        The pipeline, and the commit of the revision.

    Raises:
        UserError: It cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repo, revision=revision or None, allow_patterns=_JSON_ONLY)
    except Exception as error:  # of the Hub's client, the network or the proxy
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"model_path {repo}: neither a folder here nor a repository that can be had from the "
            f"Hub ({reason})"
        ) from error
    where = f"{repo}@{revision}" if revision else repo
    saved = read_folder(Path(folder), where, repo.partition("/")[2])
    return saved, Path(folder).name


def index_of(text: str | None, where: str) -> dict[str, Any]:
    """Return the content of `model_index.json`.

    Raises:
        UserError: There is no such file, or it does not name a pipeline class.
    """
    if text is None:
        raise UserError(
            f"model_path {where} is not a saved diffusers pipeline: it has no {INDEX} "
            "(checkpoints in another layout must be converted first)"
        )
    try:
        index = json.loads(text)
        name = index["_class_name"]
    except (json.JSONDecodeError, KeyError, TypeError):
        name, index = None, {}
    if not name or not isinstance(name, str | list):
        raise UserError(f"model_path {where}: {INDEX} does not name a pipeline class")
    return dict(index)


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{where} does not hold a configuration")
    return found
