"""Reads the files that clips start from: images, videos and masks in the cells of an input.

The driver reads and decodes every file once. The SHA-256 of a file is part of the sample's identity
and its place is not: the clip changes if the file is replaced, not if it is moved. The driver
stores files that come as bytes in the output prefix, by their hash, because its memory cannot hold
those of a whole input. Workers read them again: `pipeline.engine.condition_inputs`.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from pipeline.errors import RowRejectedError, StorageError
from pipeline.prompts.condition_columns import (
    CONDITION_COLUMNS,
    ConditionColumn,
    ConditionFile,
    MediaCondition,
    MediaKind,
    missing,
)
from pipeline.prompts.pixels import is_image, upright_rgb
from pipeline.prompts.prompt_file import SourceRow
from pipeline.prompts.videos import duration_s
from pipeline.storage.faults import is_transient
from pipeline.storage.file_system import lost_slashes
from pipeline.storage.places import host_note
from pipeline.storage.storage import UNKNOWN, Storage, locate
from pipeline.wording import a_kind_of

MAX_BYTES: Mapping[MediaKind, int] = {
    "image": 64 << 20,
    "images": 64 << 20,
    "video": 512 << 20,
    "mask": 512 << 20,
}
"""Limit of one file; a frame of any model is far smaller than an image may be."""
MAX_IMAGES = 16
"""Most images in one cell."""
MAX_PLACE_CHARS = 4096
"""Longer texts are no paths or URIs."""
LARGE_BYTES, LARGE_PIXELS = 4 << 20, 1 << 23
"""Files above one of these are read and decoded a few at a time, to bound the memory."""
LARGE_AT_ONCE = 2
RETRY_S = 20.0
"""Seconds for which one file is tried again when its store does not answer."""
SILENT = 3
"""Files in a row without an answer of their store; then the input ends, because every further
file would wait as long."""

_large = threading.Semaphore(LARGE_AT_ONCE)

READS_AT_ONCE = 16
"""Rows whose files are read in parallel; most of that time is waiting."""


@dataclass(frozen=True)
class ConditionReader:
    """Reads the files of an input and stores those that come as bytes.

    Attributes:
        storage: The output prefix.
        store: Whether files that come as bytes are stored; not in a dry run.
        retry_s: Seconds for which one file is tried again.
    """

    storage: Storage
    store: bool = True
    retry_s: float = RETRY_S
    _silent: Counter[str] = field(default_factory=Counter, repr=False, compare=False)

    def resolve(
        self, row: Mapping[str, Any], conditions: Iterable[MediaCondition], folder: str = ""
    ) -> dict[str, Any]:
        """Return the row with the `ConditionFile`s of each column in place of its cell.

        Raises:
            RowRejectedError: A file is missing that every clip needs, or cannot be read.
            StorageError: A store has not answered for several files in a row.
        """
        resolved = dict(row)
        for each in conditions:
            cells = [_unwrapped(cell) for cell in _cells(each, row.get(each.column))]
            if any(cell in (None, "", b"") for cell in cells):
                raise RowRejectedError(f"{each.column} holds an empty place in its list")
            if not cells and each.required:
                raise RowRejectedError(missing(each.column, is_there=each.column in row))
            resolved[each.column] = tuple(self.read(each.column, cell, folder) for cell in cells)
        for each in conditions:
            if each.needs is not None and resolved[each.column] and not resolved.get(each.needs):
                raise RowRejectedError(f"{each.column} means nothing without {each.needs}")
        return resolved

    def read(self, column: ConditionColumn, value: Any, folder: str = "") -> ConditionFile:
        """Read one file: a path or URI, bytes, or `{bytes, path}` as `datasets` stores it.

        Args:
            column: The column that it belongs to.
            value: The cell, or one place of its list.
            folder: URI of the folder of its prompts file, in which relative paths are looked for.

        Raises:
            RowRejectedError: The value is no file of this kind that can be read.
            StorageError: A store has not answered for several files in a row.
        """
        value = _unwrapped(value)
        limit = MAX_BYTES[CONDITION_COLUMNS[column]]
        if isinstance(value, str):
            at = _place(column, value, folder)
            data = self._fetch(column, at, limit)
        elif isinstance(value, bytes):
            at, data = "", value
            if len(data) > limit:
                raise RowRejectedError(_too_large(f"{column} bytes", limit))
        else:
            raise RowRejectedError(f"{column} is {a_kind_of(value)}, not a URI or bytes")
        seconds = _checked(column, data, at or "bytes")
        sha256 = hashlib.sha256(data).hexdigest()
        if not at:
            kind = "images" if seconds is None else "videos"
            key = f"{kind}/{sha256[:2]}/{sha256}"
            at = f"{self.storage.uri}/{key}"
            if self.store and not self.storage.exists(key):
                self.storage.put_bytes(key, data)
        return ConditionFile(column, sha256, at, seconds)

    def _fetch(self, column: str, at: str, limit: int) -> bytes:
        """Read a file; whatever is wrong with one place is a fault of its row alone."""
        host = "/".join(at.split("/")[:3])
        try:
            storage, name = locate(at)
            data = _read(replace(storage, retry_s=self.retry_s), name, f"{column} {at}", limit)
        except RowRejectedError:
            raise
        except StorageError as error:
            if error.__cause__ is not None and is_transient(error.__cause__):
                self._silent[host] += 1
                if self._silent[host] >= SILENT:
                    raise StorageError(f"{SILENT} files in a row: {error}") from error
            raise RowRejectedError(f"{column}: {error}") from error
        except Exception as error:
            raise RowRejectedError(f"{column} {at}: {type(error).__name__}: {error}") from error
        self._silent[host] = 0
        return data


def values_of(
    rows: Sequence[SourceRow], conditions: Sequence[MediaCondition], reader: ConditionReader | None
) -> Iterator[Mapping[str, Any] | RowRejectedError]:
    """Yield the values of each row with its files read, or the reason why it is rejected.

    Args:
        rows: Rows of an input.
        conditions: What clips start from besides their texts.
        reader: Reads the files; None leaves the cells as they are.
    """

    def values(row: SourceRow) -> Mapping[str, Any] | RowRejectedError:
        if row.problem:
            return RowRejectedError(row.problem)
        if reader is None or not conditions:
            return row.values
        try:
            return reader.resolve(row.values, conditions, row.folder)
        except RowRejectedError as error:
            return error

    if not conditions:
        return map(values, rows)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        return iter(list(pool.map(values, rows)))


def _cells(condition: MediaCondition, value: Any) -> Sequence[Any]:
    """The files in a cell; several only in a column of several images, as a list or its JSON."""
    value = _unwrapped(value)
    if value is None or value in ("", b""):
        return ()
    if condition.kind != "images":
        return (value,)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise RowRejectedError(f"{condition.column} is no JSON list: {value[:80]}") from None
    if not isinstance(value, list | tuple):
        return (value,)
    if len(value) > MAX_IMAGES:
        raise RowRejectedError(
            f"{condition.column} holds {len(value)} images, more than the limit of {MAX_IMAGES}"
        )
    return value


def _unwrapped(value: Any) -> Any:
    """The bytes or the path of a struct of both."""
    if isinstance(value, Mapping):
        return value.get("path") if value.get("bytes") is None else value["bytes"]
    return value


def _place(column: str, value: str, folder: str) -> str:
    """The URI of a file, or its absolute path."""
    if len(value) > MAX_PLACE_CHARS:
        raise RowRejectedError(f"{column} is {len(value):,} characters long: not a path or URI")
    if "\x00" in value:
        raise RowRejectedError(f"{column} holds a NUL character: not a path or URI")
    if "::" in value:
        raise RowRejectedError(f"{column} {value}: chained URIs (::) are not read")
    if problem := lost_slashes(value):
        raise RowRejectedError(f"{column} {problem}")
    if "://" in value or Path(value).is_absolute():
        return value
    return f"{folder.rstrip('/')}/{value}" if folder else str(Path(value).absolute())


def _read(storage: Storage, name: str, what: str, limit: int) -> bytes:
    size = storage.size(name)
    if size is None:
        raise RowRejectedError(
            f"{what}{host_note(what.partition(' ')[2])}: not found, or not a file"
        )
    if size == 0:
        raise RowRejectedError(f"{what}: is empty")
    if size > limit:
        raise RowRejectedError(f"{_too_large(what, limit)}: {size:,}")
    with _large if size == UNKNOWN or size > LARGE_BYTES else nullcontext():
        data = storage.read_at_most(name, limit)
    if data is None:
        raise RowRejectedError(_too_large(what, limit))
    return data


def _too_large(what: str, limit: int) -> str:
    return f"{what}: has more bytes than the limit of {limit:,}"


def _checked(column: ConditionColumn, data: bytes, where: str) -> float | None:
    """Decode the whole file: the header of one that was cut short looks right.

    Returns:
        How long a video lasts, in seconds; None for an image.
    """
    kind = CONDITION_COLUMNS[column]
    if kind == "video" and is_image(data):
        raise RowRejectedError(f"{column} {where}: is a picture, not a video")
    if kind == "video" or (kind == "mask" and not is_image(data)):
        try:
            with _large:
                return duration_s(data)
        except ValueError as error:
            raise RowRejectedError(f"{column} {where}: {error}") from None
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            with _large if width * height > LARGE_PIXELS else nullcontext():
                upright_rgb(image)
    except UnidentifiedImageError:
        raise RowRejectedError(f"{column} {where}: cannot be decoded (no known format)") from None
    except Image.DecompressionBombError:
        raise RowRejectedError(f"{column} {where}: has too many pixels") from None
    except Exception as error:  # noqa: BLE001 - decoders raise anything on a broken file
        raise RowRejectedError(f"{column} {where}: cannot be decoded ({error})") from None
    return None
