"""The files of a saved pipeline: which of them count, their content hash, a node's own copy.

The revision of files is one hash over the SHA-256 of every file that a pipeline is loaded from. It
is the same for a folder and for its mirror in an object store, so moving weights does not change
sample ids. A mirror states its digests in `SHA256SUMS` (the format of coreutils' `sha256sum`),
because object stores offer no content hash of large files; every file is checked when it is copied.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock

from pipeline.errors import UserError
from pipeline.storage.storage import Storage

SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})
"""Weights, configurations and tokenizers; cards, licences and caches do not decide pixels."""

MANIFEST = "SHA256SUMS"
MANIFEST_COMMAND = rf"find . -type f ! -name {MANIFEST} -exec sha256sum {{}} + > {MANIFEST}"

CACHE_ENV = "SENCACHE_CACHE_DIR"
"""Folder for copies of mirrored models; `~/.cache/sencache-pipeline` if unset."""

REVISION_DIGITS = 16
_COPY_BYTES = 16 << 20
_COPIES_AT_ONCE = 4
_HASHES_AT_ONCE = 8


def revision_of(digests: Mapping[str, str]) -> str:
    """First 16 hex digits of SHA-256 over the sorted `digest  path` lines.

    Args:
        digests: Path inside the saved pipeline to SHA-256 in hex.
    """
    lines = "".join(f"{digests[path]}  {path}\n" for path in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()[:REVISION_DIGITS]


def folder_digests(folder: Path) -> dict[str, str]:
    """Read every file of a saved pipeline and return its SHA-256 by path.

    Hashes eight files at a time: large weights are many shards, and hashing releases the GIL.

    Raises:
        OSError: A file cannot be read.
    """
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    chosen = sorted(key for key, path in files.items() if _counts(key) and path.is_file())
    with ThreadPoolExecutor(_HASHES_AT_ONCE) as pool:
        return dict(zip(chosen, pool.map(lambda key: _sha256(files[key]), chosen), strict=True))


def mirror_digests(storage: Storage) -> dict[str, str]:
    """Return the digests that a mirror states in `SHA256SUMS`.

    Raises:
        UserError: The file is missing or malformed; the text says how to make it.
        StorageError: The mirror cannot be read.
    """
    if not storage.exists(MANIFEST):
        raise UserError(
            f"{storage.uri} has no {MANIFEST}, so its weights have no revision: in the folder that "
            f"you uploaded run `{MANIFEST_COMMAND}` and upload that file too"
        )
    digests: dict[str, str] = {}
    for number, line in enumerate(storage.read_bytes(MANIFEST).decode().splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        path = posixpath.normpath(match[2]) if match else ""
        if match is None or path.startswith(("/", "..")):
            raise UserError(
                f"{storage.uri}/{MANIFEST} line {number} is not `<sha256>  <path in the folder>`: "
                f"make it with `{MANIFEST_COMMAND}`"
            )
        if _counts(path):
            digests[path] = match[1]
    return digests


def node_copy(uri: str, revision: str) -> Path:
    """Return this node's copy of a mirrored pipeline; the first process to ask makes it.

    The folder gets its final name only when every file is complete and has its stated digest, so an
    interrupted copy is never used; the next process starts it again.

    Args:
        uri: The mirror, any fsspec prefix with a `SHA256SUMS`.
        revision: What `revision_of` gave for it when the run began.

    Raises:
        UserError: The mirror was replaced since the run began, or a file is damaged.
        StorageError: The mirror cannot be read.
    """
    base = os.environ.get(CACHE_ENV) or "~/.cache/sencache-pipeline"
    root = Path(base).expanduser() / "models"
    root.mkdir(parents=True, exist_ok=True)
    whole, partial = root / revision, root / f"{revision}.partial"
    with filelock.FileLock(root / f"{revision}.lock"):
        if whole.is_dir():
            return whole
        shutil.rmtree(partial, ignore_errors=True)
        storage = Storage(uri)
        digests = mirror_digests(storage)
        if revision_of(digests) != revision:
            raise UserError(
                f"{uri} is at revision {revision_of(digests)} but the run began with {revision}: "
                "its files were replaced meanwhile; start a new run"
            )
        with ThreadPoolExecutor(_COPIES_AT_ONCE) as pool:
            jobs = [
                pool.submit(_copy, storage, path, partial / path, digest)
                for path, digest in digests.items()
            ]
        for job in jobs:
            job.result()
        partial.rename(whole)
    return whole


def _copy(storage: Storage, key: str, target: Path, digest: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    with storage.open(key) as source, target.open("wb") as sink:
        while chunk := source.read(_COPY_BYTES):
            sha256.update(chunk)
            sink.write(chunk)
    if sha256.hexdigest() != digest:
        raise UserError(
            f"{storage.uri}/{key} is not the file that {MANIFEST} states: upload it again, "
            f"or make {MANIFEST} anew if it was meant to change"
        )


def _counts(key: str) -> bool:
    hidden = any(part.startswith(".") for part in key.split("/"))
    return not hidden and Path(key).suffix in SUFFIXES


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
