"""Which versions of libraries made a row: those that can change pixels or timings."""

from __future__ import annotations

import functools
import importlib.metadata
import platform

LIBRARIES = ("torch", "diffusers", "transformers", "ray", "xfuser")
VERSIONED = ("python", "pipeline", *LIBRARIES)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the libraries that can change pixels or timings, "" for absent packages."""
    found = {"python": platform.python_version(), "pipeline": _installed("sencache-pipeline")}
    return found | {name: _installed(name) for name in LIBRARIES}


def _installed(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
