"""Which library splits a model over the ranks of a group, and how: decided once, on the driver.

Only what a parity test holds is offered; the rest is refused by name, with what would be right.
Imports neither torch nor a backend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.config import ParallelConfig
    from pipeline.models.spec import ModelSpec

XFUSER, CONTEXT_PARALLEL = "xfuser", "context_parallel"

OFFERED: Mapping[tuple[str, str], tuple[str, ...]] = {
    (XFUSER, "wan"): ("ulysses", "ring"),
    (CONTEXT_PARALLEL, "wan"): ("ulysses", "ring"),
    (CONTEXT_PARALLEL, "ltx"): ("ulysses", "ring"),
    (CONTEXT_PARALLEL, "cogvideox"): ("ulysses",),
    (CONTEXT_PARALLEL, "hunyuan_video"): ("ulysses",),
}
"""Backend and family, and the kinds of sequence parallelism that `tests/pipeline/group` compares
with one rank. Where both kinds are there they combine (USP = Ulysses x ring)."""


@dataclass(frozen=True)
class Layout:
    """How the ranks of a group share a network.

    Attributes:
        backend: `xfuser`, `context_parallel`, or "" where one rank holds it all.
        ulysses: Ranks that share the heads of an attention.
        ring: Ranks that pass keys and values on; the group has `ulysses` x `ring` ranks.
        reason: Why this backend, for the log and the output row.
    """

    backend: str = ""
    ulysses: int = 1
    ring: int = 1
    reason: str = "one rank"

    @property
    def size(self) -> int:
        """Ranks of the group."""
        return self.ulysses * self.ring

    def check_even(self, tokens: int) -> None:
        """Refuse a clip where Ulysses and ring together need equal shares.

        Raises:
            ValueError: With the numbers.
        """
        if tokens % self.size and self.ring > 1 and self.ulysses > 1:
            raise ValueError(
                f"a clip of {tokens} tokens cannot be shared evenly by Ulysses {self.ulysses} x "
                f"ring {self.ring} ranks: choose another size, --parallel.ring or "
                "--parallel.degree"
            )

    def to_row(self) -> dict[str, Any]:
        """The `parallel` struct of an output row."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.backend}, Ulysses {self.ulysses} x ring {self.ring} ({self.reason})"


ALONE = Layout()


def choose_layout(parallel: ParallelConfig, spec: ModelSpec, device: str) -> Layout:
    """Settle how a group of the configured degree splits a model.

    Args:
        parallel: The run's settings.
        spec: The model.
        device: `cuda` or `cpu`; `auto` while it is not known: what no device could do is refused.

    Raises:
        UserError: This model, backend, kind or device is not offered.
    """
    degree, ring = parallel.degree, parallel.ring
    if degree % ring:
        raise UserError(
            f"--parallel.ring {ring} does not divide --parallel.degree {degree}: "
            f"use {', '.join(str(each) for each in range(1, degree + 1) if degree % each == 0)}"
        )
    if degree == 1:
        return ALONE
    backend, reason = _backend(parallel.backend, spec, device)
    kinds = OFFERED[backend, spec.family]
    if ring > 1 and "ring" not in kinds:
        raise UserError(
            f"--parallel.ring {ring}: {spec.name} is split by Ulysses only; leave it out"
        )
    if ring > 1 and device == "cpu":
        raise UserError(
            f"--parallel.ring {ring} needs GPUs: torch has no CPU attention that gives the sums "
            "that a ring adds up; leave it out"
        )
    return Layout(backend, degree // ring, ring, reason)


def _backend(wanted: str, spec: ModelSpec, device: str) -> tuple[str, str]:
    """Name of the backend, and why it is this one."""
    able = [backend for backend, family in OFFERED if family == spec.family]
    if not able:
        raise UserError(
            f"--parallel.degree: {spec.name} is not split over devices by this version; use "
            "--parallel.degree 1 and more --replicas"
        )
    if wanted != "auto":
        if wanted not in able:
            raise UserError(
                f"--parallel.backend {wanted} is not offered for {spec.name}: use {able[0]}"
            )
        if wanted == XFUSER and device == "cpu":
            raise UserError(
                f"--parallel.backend {XFUSER} needs GPUs: use {CONTEXT_PARALLEL} on a CPU"
            )
        return wanted, "asked for"
    if device == "cpu":
        return CONTEXT_PARALLEL, "auto: xfuser needs GPUs"
    if XFUSER in able:
        return XFUSER, "auto: on GPUs"
    return CONTEXT_PARALLEL, f"auto: xfuser is not offered for {spec.family}"


def wan_tokens(patch_size: Sequence[int], latents: Sequence[int]) -> int:
    """Tokens of a clip in a Wan network.

    Args:
        patch_size: The network's, (frames, rows, columns).
        latents: Shape of the latents, (rows of the batch, channels, frames, rows, columns).
    """
    return math.prod(size // patch for size, patch in zip(latents[2:], patch_size, strict=True))
