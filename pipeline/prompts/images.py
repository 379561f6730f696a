"""Reads the `image` column of an input: the first frames of image-to-video models.

The driver reads and decodes every image once. The SHA-256 of an image is part of the sample's
identity and its place is not: the clip changes if the image is replaced, not if it is moved. The
driver stores images that come as bytes in the output prefix, by their hash, because its memory
cannot hold those of a whole input. Workers read them again: `pipeline.engine.first_frame`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from pipeline.errors import RowRejectedError
from pipeline.prompts.prompt_file import ImageRef
from pipeline.storage.places import host_note
from pipeline.storage.storage import Storage, locate

MAX_BYTES = 64 << 20
"""Limit of one image file; a frame of any model is far smaller."""


@dataclass(frozen=True)
class Images:
    """Reads the images of an input and stores those that come as bytes.

    Attributes:
        storage: The output prefix.
        store: Whether images that come as bytes are stored; not in a dry run.
    """

    storage: Storage
    store: bool = True

    def resolve(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row with an `ImageRef` in place of its image; raises as `read` does."""
        return {**row, "image": self.read(row.get("image"))}

    def read(self, value: Any) -> ImageRef:
        """Read one image: a path or URI, bytes, or `{bytes, path}` as `datasets` stores it.

        Raises:
            RowRejectedError: The value is missing or is not an image.
            StorageError: A store does not answer.
        """
        if isinstance(value, Mapping):
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if value is None or value in ("", b""):
            raise RowRejectedError("image is missing: this model starts from one")
        if isinstance(value, str):
            at = value if "://" in value else str(Path(value).absolute())
            data = _read(at)
        elif isinstance(value, bytes):
            at, data = "", value
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


def _read(uri: str) -> bytes:
    storage, name = locate(uri)
    if not storage.exists(name):
        raise RowRejectedError(f"image {uri}{host_note(uri)}: not found")
    return storage.read_bytes(name)


def _check(data: bytes, where: str) -> None:
    """Decode the whole image: the header of a file that was cut short looks right."""
    if len(data) > MAX_BYTES:
        raise RowRejectedError(
            f"image {where}: {len(data):,} bytes, more than the limit of {MAX_BYTES:,}"
        )
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except UnidentifiedImageError:
        raise RowRejectedError(f"image {where}: cannot be decoded (no known format)") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise RowRejectedError(f"image {where}: cannot be decoded ({error})") from None
    except Image.DecompressionBombError:
        raise RowRejectedError(f"image {where}: has too many pixels") from None
