"""Batch generation of video datasets: Ray Data over groups of GPUs, a row and an mp4 a sample.

`generate` and `build_processor` are the pipeline as a step of a Ray Data program.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.processing.processor import build_processor as build_processor
    from pipeline.processing.processor import generate as generate

__version__ = "0.1.0"
__all__ = ["build_processor", "generate"]


def __getattr__(name: str) -> Any:
    """Import the public functions on first use: they load Ray."""
    if name in __all__:
        from pipeline.processing import processor

        return getattr(processor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
