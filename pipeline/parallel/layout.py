"""The layout of a group: which library splits a model over its ranks, and into which degrees.

The driver chooses it once. It offers only what a parity test covers, and refuses the rest with a
message that says what would be right. Importing it loads neither torch nor a backend.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline.errors import UserError
from pipeline.models.families.base import Backend

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh

    from pipeline.config.sections import ParallelConfig
    from pipeline.models.spec import ModelSpec

XFUSER: Final = "xfuser"
CONTEXT_PARALLEL: Final = "context_parallel"

NOT_INSTALLED = "is not installed: pip install 'sencache-pipeline[xfuser]'"

CFG, RING, ULYSSES = "cfg", "ring", "ulysses"
"""Dimensions of the mesh of ranks; the last two are named as in diffusers."""


@dataclass(frozen=True)
class ParallelLayout:
    """How the ranks of a group share a network.

    Attributes:
        backend: What splits a clip's tokens: `xfuser` or `context_parallel`; "" where nothing does.
        ulysses: Ranks that share the heads of an attention.
        ring: Ranks that pass keys and values on to each other.
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

    def mesh(self, device: torch.device) -> DeviceMesh:
        """The ranks of the process group as a mesh; all ranks call it at once.

        Ranks that share the tokens of a clip have neighbouring numbers, as in xfuser. With two
        branches of guidance, each half of the ranks has one of them.

        Args:
            device: Of this rank.
        """
        from torch.distributed.device_mesh import init_device_mesh

        degrees = (self.cfg, self.ring, self.ulysses)
        return init_device_mesh(device.type, degrees, mesh_dim_names=(CFG, RING, ULYSSES))

    def check_even(self, tokens: int) -> None:
        """Refuse a clip whose tokens cannot be shared evenly, where Ulysses and ring combine.

        Raises:
            ValueError: The tokens do not divide.
        """
        if tokens % self.sequence and self.ring > 1 and self.ulysses > 1:
            raise ValueError(
                f"a clip of {tokens} tokens cannot be shared evenly by Ulysses {self.ulysses} x "
                f"ring {self.ring} ranks: choose another size, --parallel.ring or "
                "--parallel.degree"
            )

    def to_row(self) -> dict[str, Any]:
        """The `parallel` struct of an output row."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __str__(self) -> str:
        parts = [f"{self.backend}, Ulysses {self.ulysses} x ring {self.ring}"]
        if self.cfg > 1:
            parts = [f"{self.cfg} branches of guidance", *(parts if self.backend else ())]
        decoding = ", decoding shared" if self.vae else ""
        return f"{' x '.join(parts)}{decoding} ({self.reason})"


ALONE = ParallelLayout()


def choose_layout(parallel: ParallelConfig, spec: ModelSpec, device: str) -> ParallelLayout:
    """Choose how a group of the configured degree splits a model.

    Args:
        parallel: The run's settings.
        spec: The model.
        device: `cuda` or `cpu`; `auto` while it is not known, which refuses only what no device
            could do.

    Raises:
        UserError: This model, backend, kind or device is not offered.
    """
    degree, ring, cfg = parallel.degree, parallel.ring, parallel.cfg
    if degree % cfg:
        raise UserError(
            f"--parallel.cfg {cfg} needs an even --parallel.degree, not {degree}: half of the GPUs "
            "for each branch of guidance"
        )
    if cfg > 1 and spec.pipeline.distilled_guidance:
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
    if ring > 1 and "ring" not in spec.family.splits[backend]:
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
    """Refuse to share a decoder that DistVAE does not know, or to share it with nobody."""
    if degree == 1:
        raise UserError("--parallel.vae needs a --parallel.degree of 2 or more: leave it out")
    if not spec.family.shares_decoder:
        raise UserError(
            f"--parallel.vae: DistVAE, which shares decoders out, has none for {spec.name}; leave "
            "it out"
        )
    if not _is_installed("distvae"):
        raise UserError(f"--parallel.vae: distvae {NOT_INSTALLED}, or leave it out")


def _backend(
    wanted: Backend | Literal["auto"], spec: ModelSpec, device: str
) -> tuple[Backend, str]:
    """Name of the backend, and why it is this one."""
    able = list(spec.family.splits)
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
        if wanted == XFUSER and not _is_installed(XFUSER):
            raise UserError(
                f"--parallel.backend {XFUSER}: {XFUSER} {NOT_INSTALLED}, or use {CONTEXT_PARALLEL}"
            )
        return wanted, "asked for"
    if device == "cpu":
        return CONTEXT_PARALLEL, "auto: xfuser needs GPUs"
    if XFUSER not in able:
        return CONTEXT_PARALLEL, f"auto: xfuser is not offered for {spec.family.name}"
    if not _is_installed(XFUSER):
        return CONTEXT_PARALLEL, f"auto: xfuser {NOT_INSTALLED}"
    return XFUSER, "auto: on GPUs"


def _is_installed(library: str) -> bool:
    """Whether a library of the extra `xfuser` is there; it is not imported."""
    return importlib.util.find_spec(library) is not None
