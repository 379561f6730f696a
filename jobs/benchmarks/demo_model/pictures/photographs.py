"""Photographs that Python packages ship under free licences."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import UserError

SHORT_SIDE = 320
"""Height or width in pixels to which photographs are scaled, whichever is shorter."""


@dataclass(frozen=True)
class Photograph:
    """A photograph inside an installed package.

    Attributes:
        word: Its word in captions.
        package: Name of the package, as it is imported.
        distribution: Name of the package, as it is installed.
        path: Place inside the package.
        licence: Its licence, and whose work it is, as the package says.
    """

    word: str
    package: str
    distribution: str
    path: str
    licence: str


PHOTOGRAPHS = (
    Photograph(
        "officer",
        "matplotlib",
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        "public domain, United States Navy",
    ),
    Photograph(
        "palace",
        "sklearn",
        "scikit-learn",
        "datasets/images/china.jpg",
        "CC BY 2.0, danielbuechele",
    ),
    Photograph(
        "flower",
        "sklearn",
        "scikit-learn",
        "datasets/images/flower.jpg",
        "CC BY 2.0, flickr.com/photos/vultilion",
    ),
    Photograph(
        "coffee",
        "skimage",
        "scikit-image",
        "data/coffee.png",
        "CC0, Rachel Michetti",
    ),
    Photograph(
        "cat",
        "skimage",
        "scikit-image",
        "data/chelsea.png",
        "CC0, Stefan van der Walt",
    ),
    Photograph(
        "astronaut",
        "skimage",
        "scikit-image",
        "data/astronaut.png",
        "public domain, NASA",
    ),
)


@cache
def load_photograph(photograph: Photograph) -> Tensor:
    """Return a photograph, scaled to `SHORT_SIDE`.

    Returns:
        ``(3, height, width)`` in [-1, 1].

    Raises:
        UserError: Its package is not installed, or lacks the file.
    """
    found = importlib.util.find_spec(photograph.package)
    folders = list(found.submodule_search_locations or []) if found else []
    file = Path(folders[0]) / photograph.path if folders else None
    if file is None or not file.is_file():
        raise UserError(
            f"the photograph {photograph.word} comes with the package {photograph.distribution}, "
            "which is not installed: pip install matplotlib scikit-learn scikit-image"
        )
    image = Image.open(file).convert("RGB")
    scale = SHORT_SIDE / min(image.size)
    width, height = (max(SHORT_SIDE, round(side * scale)) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1
