"""On which machine a local path is, for messages, and which folders do not outlive a Ray job.

On a cluster a local path names one of many disks, and in a Ray job a relative path names the folder
into which Ray unpacked the code of the job: Ray deletes it after the job, and the next edit of the
code gives it another name. Files that were sent with the job are read from there; nothing may be
written there. This module knows how Ray names that folder (2.60: `WorkingDirPlugin` in
`ray/_private/runtime_env/working_dir.py`; a test holds it to that) and does not load Ray.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import StorageError
from pipeline.storage.faults import explain
from pipeline.storage.file_system import split_uri
from pipeline.storage.keys import TEMP_PREFIX

PACKAGES = ("runtime_resources", "working_dir_files")
"""The end of the path of the folder that holds what Ray unpacked."""

_CLUSTER = ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR")
"""Environment variables of which one is set where a cluster is used."""


def is_package(path: str) -> bool:
    """Whether an absolute path lies where Ray unpacks the files of a job."""
    return PACKAGES in itertools.pairwise(Path(path).parts)


def check_kept(uri: str, *, probe: bool = False) -> None:
    """Refuse a place whose files would not outlive a Ray job.

    Args:
        uri: The place.
        probe: Whether to try also that a local place can be written, for those who write nothing
            there: an empty folder is made in it, or in the nearest folder above it that exists, and
            removed at once. An object store could only be tried with an object.

    Raises:
        StorageError: It is in the folder into which Ray unpacked the job, or cannot be written.
    """
    protocol, path = split_uri(uri)
    if not protocol and is_package(path):
        raise StorageError(
            f"cannot keep files in {path}{host_note(path)}: Ray deletes this folder after the job. "
            "In a Ray job a relative path leads there; give s3://bucket/prefix, or the whole path "
            "of a folder that all nodes share"
        )
    if probe and not protocol:
        try:
            Path(tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=_nearest(Path(path)))).rmdir()
        except OSError as error:
            problem = explain(error)
            raise StorageError(f"cannot write to {path}{host_note(path)}: {problem}") from error


def _nearest(path: Path) -> Path:
    """The first of a path and those above it that exists."""
    for each in (path, *path.parents):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            each.lstat()
            return each
    return path


def host_note(uri: str, environment: Mapping[str, str] = os.environ) -> str:
    """What a message adds to a URI: the host of a local path, where there are several.

    Says also whether these are the files that were sent with a Ray job; "" for object stores and
    where no cluster is used.
    """
    protocol, path = split_uri(uri)
    if protocol:
        return ""
    host = socket.gethostname()
    if is_package(path):
        return f" (among the files sent with this Ray job, on host {host})"
    return f" (local folder of host {host})" if any(map(environment.get, _CLUSTER)) else ""
