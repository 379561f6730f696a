"""First frames of image-to-video: from an input's `image` column to the picture a model gets.

The driver reads and decodes every image once. Its SHA-256 is part of the sample's identity, its
place is not: a moved image makes no other clip, a replaced one does. Workers read it again and
check the hash. Images that come as bytes are stored in the output prefix, by their hash, because
the rows of a whole input do not fit through a driver's memory.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import RowRejectedError
from pipeline.requests.from_row import ImageRef
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage, locate

MAX_BYTES = 64 << 20
"""Of one image file; a frame of any model is far smaller."""


@dataclass(frozen=True)
class Images:
    """Takes in the images of an input.

    Attributes:
        storage: The output prefix.
        store: Whether images that come as bytes are stored; not in a dry run.
    """

    storage: Storage
    store: bool = True

    def settle(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with an `ImageRef` in place of its image.

        Raises:
            RowRejectedError: There is no image, or what is there is none.
            StorageError: A store does not answer.
        """
        return {**row, "image": self.take(row.get("image"))}

    def take(self, value: Any) -> ImageRef:
        """Read one image: a path or URI, bytes, or `{bytes, path}` as `datasets` stores it.

        Raises:
            RowRejectedError: It is missing, or no image.
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


def picture(request: SampleRequest) -> Image.Image:
    """The first frame of a request, RGB, in the clip's size.

    Scaled until it covers the frame and cut at its middle, so that nothing is distorted.

    Raises:
        ValueError: The file is gone or another one than when the run began.
    """
    storage, name = locate(request.image_at)
    data = storage.read_bytes(name)
    if hashlib.sha256(data).hexdigest() != request.image:
        raise ValueError(f"{request.image_at} was replaced since the run began")
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    size = request.width, request.height
    return ImageOps.fit(upright, size, Image.Resampling.LANCZOS)


def image_arguments(request: SampleRequest) -> dict[str, Any]:
    """Arguments of a pipeline's call; none for a request without image."""
    return {"image": picture(request)} if request.image else {}


def _read(uri: str) -> bytes:
    storage, name = locate(uri)
    if not storage.exists(name):
        raise RowRejectedError(f"image {uri}: not found")
    return storage.read_bytes(name)


def _check(data: bytes, where: str) -> None:
    """Decode it: a header alone tells nothing of a file that was cut short."""
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
