"""Brings an image of any kind to upright 8-bit RGB, as a person sees it.

Pillow's own conversion cuts 16-bit grey at 255, which makes most of it white, and drops the alpha
channel, which shows whatever lies under it. Here grey is scaled, and what is transparent becomes
white. Colour profiles are not applied. Of an animation the first frame counts.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 1 << 26
"""Largest image, 8192 x 8192."""

_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return an image as 8-bit RGB, turned as its EXIF data say.

    Raises:
        ValueError: It has too many pixels, or values whose range is not known.
        OSError: It cannot be decoded; so can SyntaxError.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} is more than the limit of {MAX_PIXELS:,} pixels")
    image.load()
    turned = ImageOps.exif_transpose(image)
    if turned.mode in _DEEP or turned.mode == "F":
        return _scaled(turned)
    if turned.mode in _WITH_ALPHA or "transparency" in turned.info:
        front = turned.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", front.size, "white"), front).convert("RGB")
    return turned.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    if not (values.min() >= 0.0 and values.max() <= top):
        raise ValueError(f"its values are not within 0 to {top:g}: save it with 8 or 16 bits")
    return Image.fromarray(np.rint(values * (255.0 / top)).astype(np.uint8)).convert("RGB")


def is_image(data: bytes) -> bool:
    """Whether a file begins like one of an image format, animations left out."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return not getattr(image, "is_animated", False)
    except Exception:  # noqa: BLE001 - decoders raise anything on a broken file
        return False
