"""What an eye would say: ColorVideoVDP and FLIP of a clip against its reference.

Both are optional packages (extra `perception`) that need no download.

ColorVideoVDP (Mantiuk et al., ACM Transactions on Graphics 2024; PyPI `cvvdp`) gives a clip 10 JOD,
just-objectionable differences, less what an observer would object to. Its unit is that of pair
comparisons: of two clips one JOD apart, 75 of 100 observers prefer the better one, where 50 would
do so by chance. On its scale (Thurstone's case V) a share p lies `probit(p) / probit(0.75)` apart.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable
from typing import Any

import torch

INVISIBLE_JOD = 9.9
"""From here on a difference counts as invisible: 52.7 of 100 observers would prefer the reference,
where 50 would do so if the clips were equal (:func:`preferring`)."""

DISPLAY = "standard_fhd"
"""ColorVideoVDP's display: full HD on 24 inches. A pixel is larger there than on its 4K display, so
that errors are easier to see."""

MissingReason = str
ClipMeasure = Callable[[torch.Tensor, torch.Tensor], float]
"""Takes a clip and its reference, both of shape [frames, 3, height, width] in 0..1."""


def preferring(jod: float) -> float:
    """Share of observers who prefer the reference to a clip of this many JOD."""
    normal = statistics.NormalDist()
    return normal.cdf((10.0 - jod) * normal.inv_cdf(0.75))


def load_jod(frames_per_second: float) -> tuple[ClipMeasure | None, MissingReason]:
    """Load ColorVideoVDP, on the CPU.

    Args:
        frames_per_second: Of the clips.

    Returns:
        The measure in JOD and "", or None and why there is none.
    """
    try:
        library: Any = importlib.import_module("pycvvdp")
    except ImportError as error:
        return None, f"no JOD: cvvdp cannot be imported ({error}; extra `perception`)"
    metric = library.cvvdp(display_name=DISPLAY, quiet=True, device=torch.device("cpu"))

    def measure(clip: torch.Tensor, reference: torch.Tensor) -> float:
        with torch.no_grad():
            jod, _ = metric.predict(
                clip.cpu().clamp(0, 1),
                reference.cpu().clamp(0, 1),
                dim_order="FCHW",
                frames_per_second=frames_per_second,
            )
        return float(jod)

    return measure, ""


def load_flip() -> tuple[ClipMeasure | None, MissingReason]:
    """Load FLIP (Andersson et al., HPG 2020) for ordinary images; a clip has its frames' mean.

    Returns:
        The measure, 0 for equal clips and 1 at most, and "", or None and why there is none.
    """
    try:
        library: Any = importlib.import_module("flip_evaluator")
    except ImportError as error:
        return None, f"no FLIP: flip-evaluator cannot be imported ({error}; extra `perception`)"

    def measure(clip: torch.Tensor, reference: torch.Tensor) -> float:
        errors = [
            library.evaluate(_image(want), _image(got), "LDR", applyMagma=False)[1]
            for got, want in zip(clip, reference, strict=True)
        ]
        return float(statistics.fmean(errors))

    return measure, ""


def _image(frame: torch.Tensor) -> Any:
    return frame.float().cpu().clamp(0, 1).permute(1, 2, 0).contiguous().numpy()
