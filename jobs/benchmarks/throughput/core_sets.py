"""Divides the cores of this machine between the engines and the rest of a run.

With a GPU the engine computes on the device and the rest of the run on the host's cores. On CPUs
both need cores; `apart` gives them different ones, as with a GPU, and `shared` the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError

Sharing = Literal["apart", "shared"]

MOST_APART = 2
"""Largest number of cores of an engine with its own cores; small clips gain little from more."""


def allowed() -> tuple[int, ...]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def bind(cores: Sequence[int]) -> None:
    """Let this process use these cores only.

    Raises:
        UserError: This system cannot; a comparison without it would mean something else.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("this benchmark binds processes to cores, which only Linux can")
    os.sched_setaffinity(0, cores)


@dataclass(frozen=True, slots=True)
class CoreSets:
    """Cores of engines and rest; engines have the same cores in a run and alone.

    Attributes:
        engine: Cores of the engines; empty for an engine on a GPU, which is not bound.
        rest: Cores of the driver, Ray, encoding and upload.
    """

    engine: tuple[int, ...]
    rest: tuple[int, ...]

    @property
    def text(self) -> str:
        """The division as text, for the title of a table."""
        if not self.engine:
            return f"engine on its device, {len(self.rest)} cores for the rest"
        if self.engine == self.rest:
            return f"the same {len(self.engine)} cores for engine and rest"
        return f"cores of the engine: {len(self.engine)}, others for the rest: {len(self.rest)}"


def choose_cores(device: str, sharing: Sharing, cores: Sequence[int] | None = None) -> CoreSets:
    """Choose cores for engines and rest.

    Args:
        device: `cpu` or `cuda`.
        sharing: Whether the rest has cores of its own.
        cores: Cores to divide; by default those that this process may use.

    Raises:
        UserError: No core is left for the rest.
    """
    free = tuple(sorted(allowed() if cores is None else cores))
    if device == "cuda":
        return CoreSets((), free)
    if sharing == "shared":
        return CoreSets(free, free)
    if len(free) < 2:
        raise UserError("--cores apart needs two cores, and there is one: use --cores shared")
    own = min(MOST_APART, len(free) - 1)
    return CoreSets(free[:own], free[own:])
