"""Size, devices and limits of a group."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GroupSpec:
    """One group of ranks on one node.

    Attributes:
        size: Ranks.
        devices: Entries of CUDA_VISIBLE_DEVICES, one per rank; empty where ranks compute on CPUs.
        threads: CPU threads of torch in each rank.
        start_s: Seconds that all ranks together may take to load their model.
        environment: Further variables for all ranks.

    Raises:
        ValueError: No rank, or not one device per rank.
    """

    size: int
    devices: tuple[str, ...] = ()
    threads: int = 1
    start_s: float = 3600.0
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a group has at least 1 rank, not {self.size}")
        if self.devices and len(self.devices) != self.size:
            raise ValueError(
                f"{self.size} ranks need as many devices, not {len(self.devices)}: "
                f"{', '.join(self.devices)}"
            )


def visible_devices() -> tuple[str, ...]:
    """The GPUs that were given to this process, as Ray sets them; empty where it says nothing."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return tuple(entry.strip() for entry in given.split(",") if entry.strip())
