"""The first frame that an image-to-video model starts from, in the size of the clip.

The driver has read and checked the image (`pipeline.prompts.images`); a worker reads it again.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

from PIL import Image, ImageOps

from pipeline.prompts.pixels import upright_rgb
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import locate


def first_frame(request: SampleRequest) -> Image.Image:
    """Return the first frame of a request, RGB, in the clip's size.

    The image is scaled until it covers the frame, and cropped at its centre: nothing is distorted.

    Raises:
        ValueError: The file has changed since the run began.
        StorageError: It cannot be read.
    """
    storage, name = locate(request.image_at)
    data = storage.read_bytes(name)
    if hashlib.sha256(data).hexdigest() != request.image:
        raise ValueError(f"{request.image_at} was replaced since the run began")
    with Image.open(io.BytesIO(data)) as image:
        upright = upright_rgb(image)
    size = request.width, request.height
    return ImageOps.fit(upright, size, Image.Resampling.LANCZOS)


def image_arguments(request: SampleRequest) -> dict[str, Any]:
    """Return the image argument of a pipeline's call; none for a request without image."""
    return {"image": first_frame(request)} if request.image else {}
