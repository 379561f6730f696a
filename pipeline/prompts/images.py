"""Reads the `image` column of an input: the first frames of image-to-video models.

The driver reads and decodes every image once. The SHA-256 of an image is part of the sample's
identity and its place is not: the clip changes if the image is replaced, not if it is moved. The
driver stores images that come as bytes in the output prefix, by their hash, because its memory
cannot hold those of a whole input. Workers read them again: `pipeline.engine.first_frame`.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from pipeline.errors import RowRejectedError, StorageError
from pipeline.prompts.pixels import upright_rgb
from pipeline.prompts.prompt_file import ImageRef
from pipeline.storage.faults import is_transient
from pipeline.storage.places import host_note
from pipeline.storage.storage import UNKNOWN, Storage, locate

MAX_BYTES = 64 << 20
"""Limit of one image file; a frame of any model is far smaller."""
MAX_PLACE_CHARS = 4096
"""Longer texts are no paths or URIs."""
LARGE_BYTES, LARGE_PIXELS = 4 << 20, 1 << 23
"""Images above one of these are read and decoded a few at a time, to bound the memory."""
LARGE_AT_ONCE = 2
RETRY_S = 20.0
"""Seconds for which one image is tried again when its store does not answer."""
SILENT = 3
"""Images in a row without an answer of their store; then the input ends, because every further
image would wait as long."""

_large = threading.Semaphore(LARGE_AT_ONCE)


@dataclass(frozen=True)
class Images:
    """Reads the images of an input and stores those that come as bytes.

    Attributes:
        storage: The output prefix.
        store: Whether images that come as bytes are stored; not in a dry run.
        retry_s: Seconds for which one image is tried again.
    """

    storage: Storage
    store: bool = True
    retry_s: float = RETRY_S
    _silent: Counter[str] = field(default_factory=Counter, repr=False, compare=False)

    def resolve(self, row: Mapping[str, Any], folder: str = "") -> dict[str, Any]:
        """Return the row with an `ImageRef` in place of its image; raises as `read` does."""
        return {**row, "image": self.read(row.get("image"), folder)}

    def read(self, value: Any, folder: str = "") -> ImageRef:
        """Read one image: a path or URI, bytes, or `{bytes, path}` as `datasets` stores it.

        Args:
            value: The cell.
            folder: URI of the folder of its prompts file, in which relative paths are looked for.

        Raises:
            RowRejectedError: The value is missing or is no image that can be read.
            StorageError: A store has not answered for several images in a row.
        """
        if isinstance(value, Mapping):
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if value is None or value in ("", b""):
            raise RowRejectedError("image is missing: this model starts from one")
        if isinstance(value, str):
            at = _place(value, folder)
            data = self._fetch(at)
        elif isinstance(value, bytes):
            at, data = "", value
            if len(data) > MAX_BYTES:
                raise RowRejectedError(_too_large("bytes"))
        else:
            raise RowRejectedError(f"image is a {type(value).__name__}, not a URI or bytes")
        _check(data, at or "bytes")
        sha256 = hashlib.sha256(data).hexdigest()
        if not at:
            key = f"images/{sha256[:2]}/{sha256}"
            at = f"{self.storage.uri}/{key}"
            if self.store and not self.storage.exists(key):
                self.storage.put_bytes(key, data)
        return ImageRef(sha256, at)

    def _fetch(self, at: str) -> bytes:
        """Read a file; whatever is wrong with one place is a fault of its row alone."""
        host = "/".join(at.split("/")[:3])
        try:
            storage, name = locate(at)
            data = _read(replace(storage, retry_s=self.retry_s), name, at)
        except RowRejectedError:
            raise
        except StorageError as error:
            if error.__cause__ is not None and is_transient(error.__cause__):
                self._silent[host] += 1
                if self._silent[host] >= SILENT:
                    raise StorageError(f"{SILENT} images in a row: {error}") from error
            raise RowRejectedError(f"image: {error}") from error
        except Exception as error:
            raise RowRejectedError(f"image {at}: {type(error).__name__}: {error}") from error
        self._silent[host] = 0
        return data


def _place(value: str, folder: str) -> str:
    """The URI of an image, or its absolute path."""
    if len(value) > MAX_PLACE_CHARS:
        raise RowRejectedError(f"image is {len(value):,} characters long: not a path or URI")
    if "\x00" in value:
        raise RowRejectedError("image holds a NUL character: not a path or URI")
    if "::" in value:
        raise RowRejectedError(f"image {value}: chained URIs (::) are not read")
    if "://" in value or Path(value).is_absolute():
        return value
    return f"{folder.rstrip('/')}/{value}" if folder else str(Path(value).absolute())


def _read(storage: Storage, name: str, at: str) -> bytes:
    size = storage.size(name)
    if size is None:
        raise RowRejectedError(f"image {at}{host_note(at)}: not found, or not a file")
    if size == 0:
        raise RowRejectedError(f"image {at}: is empty")
    if size > MAX_BYTES:
        raise RowRejectedError(f"{_too_large(at)}: {size:,}")
    with _large if size == UNKNOWN or size > LARGE_BYTES else nullcontext():
        data = storage.read_at_most(name, MAX_BYTES)
    if data is None:
        raise RowRejectedError(_too_large(at))
    return data


def _too_large(where: str) -> str:
    return f"image {where}: has more bytes than the limit of {MAX_BYTES:,}"


def _check(data: bytes, where: str) -> None:
    """Decode the whole image: the header of a file that was cut short looks right."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            with _large if width * height > LARGE_PIXELS else nullcontext():
                upright_rgb(image)
    except UnidentifiedImageError:
        raise RowRejectedError(f"image {where}: cannot be decoded (no known format)") from None
    except Image.DecompressionBombError:
        raise RowRejectedError(f"image {where}: has too many pixels") from None
    except Exception as error:  # noqa: BLE001 - decoders raise anything on a broken file
        raise RowRejectedError(f"image {where}: cannot be decoded ({error})") from None
