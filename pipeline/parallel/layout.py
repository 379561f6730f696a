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
    from pipeline.config.sections import ParallelConfig
    from pipeline.models.spec import ModelSpec

XFUSER, CONTEXT_PARALLEL = "xfuser", "context_parallel"

OFFERED: Mapping[tuple[str, str], tuple[str, ...]] = {
    (XFUSER, "wan"): ("ulysses", "ring"),
    (CONTEXT_PARALLEL, "wan"): ("ulysses", "ring"),
    (CONTEXT_PARALLEL, "ltx"): ("ulysses", "ring"),
    (CONTEXT_PARALLEL, "cogvideox"): ("ulysses",),
    (CONTEXT_PARALLEL, "hunyuan_video"): ("ulysses",),
}
"""Backend and family, and the kinds of sequence parallelism that `tests/pipeline/parallel` compares
with one rank. Where both kinds are there they combine (USP = Ulysses x ring)."""

GUIDED = ("wan", "ltx", "cogvideox")
"""Families whose branches of guidance can go to two halves of the ranks, each half split further as
`OFFERED` says. The guidance of HunyuanVideo is distilled: there is one branch."""

DECODED = ("wan", "hunyuan_video")
"""Families whose decoders DistVAE can share out over the ranks."""


@dataclass(frozen=True)
class ParallelLayout:
    """How the ranks of a group share a network.

    Attributes:
        backend: What splits a clip's tokens: `xfuser` or `context_parallel`; "" where nothing does.
        ulysses: Ranks that share the heads of an attention.
        ring: Ranks that pass keys and values on.
        reason: Why this backend, for the log and the output row.
        cfg: 2 where each half of the ranks computes one branch of classifier-free guidance, else 1;
            the group has `cfg` x `ulysses` x `ring` ranks.
        vae: Whether all ranks decode together.
    """

    backend: str = ""
    ulysses: int = 1
    ring: int = 1
    reason: str = "one rank"
    cfg: int = 1
    vae: bool = False

    @property
    def size(self) -> int:
        """Ranks of the group."""
        return self.cfg * self.sequence

    @property
    def sequence(self) -> int:
        """Ranks that share the tokens of a clip."""
        return self.ulysses * self.ring

    def check_even(self, tokens: int) -> None:
        """Refuse a clip where Ulysses and ring together need equal shares.

        Raises:
            ValueError: With the numbers.
        """
        if tokens % self.sequence and self.ring > 1 and self.ulysses > 1:
            raise ValueError(
                f"a clip of {tokens} tokens cannot be shared evenly by Ulysses {self.ulysses} x "
                f"ring {self.ring} ranks: choose another size, --parallel.ring or "
                "--parallel.degree"
            )

    def to_row(self) -> dict[str, Any]:
        """The `parallel` struct of an output row."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{self.backend}, Ulysses {self.ulysses} x ring {self.ring}"]
        if self.cfg > 1:
            parts = [f"{self.cfg} branches of guidance", *(parts if self.backend else ())]
        decoding = ", decoding shared" if self.vae else ""
        return f"{' x '.join(parts)}{decoding} ({self.reason})"


ALONE = ParallelLayout()


def choose_layout(parallel: ParallelConfig, spec: ModelSpec, device: str) -> ParallelLayout:
    """Settle how a group of the configured degree splits a model.

    Args:
        parallel: The run's settings.
        spec: The model.
        device: `cuda` or `cpu`; `auto` while it is not known: what no device could do is refused.

    Raises:
        UserError: This model, backend, kind or device is not offered.
    """
    degree, ring, cfg = parallel.degree, parallel.ring, parallel.cfg
    if degree % cfg:
        raise UserError(
            f"--parallel.cfg {cfg} needs an even --parallel.degree, not {degree}: half of the GPUs "
            "for each branch of guidance"
        )
    if cfg > 1 and spec.family not in GUIDED:
        raise UserError(
            f"--parallel.cfg {cfg}: the guidance of {spec.name} is distilled, so there are no two "
            "branches to share out; leave it out"
        )
    shared = degree // cfg
    if shared % ring:
        raise UserError(
            f"--parallel.ring {ring} does not divide --parallel.degree "
            f"{degree}{f' / --parallel.cfg {cfg}' if cfg > 1 else ''}: "
            f"use {', '.join(str(each) for each in range(1, shared + 1) if shared % each == 0)}"
        )
    if parallel.vae:
        _check_decoder(degree, spec)
    if degree == 1:
        return ALONE
    backend, reason = _backend(parallel.backend, spec, device)
    if shared == 1:
        return ParallelLayout(reason="no tokens are split", cfg=cfg, vae=parallel.vae)
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
    return ParallelLayout(backend, shared // ring, ring, reason, cfg, parallel.vae)


def _check_decoder(degree: int, spec: ModelSpec) -> None:
    """Refuse to share a decoder out that cannot be, or to no one."""
    if degree == 1:
        raise UserError("--parallel.vae needs a --parallel.degree of 2 or more: leave it out")
    if spec.family not in DECODED:
        raise UserError(
            f"--parallel.vae: DistVAE, which shares decoders out, has none for {spec.name}; leave "
            "it out"
        )


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
