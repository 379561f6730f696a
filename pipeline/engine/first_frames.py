"""Decodes only the first frames of clips, for drafts that are scored and thrown away.

The decoder of Wan's VAE is causal: a frame depends on the latents up to its own time alone
(`AutoencoderKLWan._decode`, diffusers 0.42, decodes one latent frame after the other). So the first
frames come out as they would in the whole clip. Other decoders get all latents.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.models.sizes import SizeRules

CAUSAL = frozenset({"AutoencoderKLWan"})
"""VAE classes that decode the first latents as if the others followed."""


@contextlib.contextmanager
def first_frames(pipe: Any, count: int, sizes: SizeRules) -> Iterator[None]:
    """Let a pipeline decode no more latents than its first frames need.

    It may decode some frames beyond: those that share their last latent frame. Leaving the block
    while the pipeline decodes is allowed.

    Args:
        pipe: A diffusers pipeline.
        count: Frames that are wanted; 0 for all.
        sizes: Of its model; says how many frames a latent frame stands for.
    """
    vae: Any = getattr(pipe, "vae", None)
    if not count or type(vae).__name__ not in CAUSAL:
        yield
        return
    latents = latent_frames(count, sizes)
    before: Callable[..., Any] = vae.decode
    own = "decode" in vars(vae)  # it has a wrapper of its own already

    def decode(z: Any, *args: Any, **kwargs: Any) -> Any:
        return before(z[:, :, :latents], *args, **kwargs)

    vae.decode = decode
    try:
        yield
    finally:
        if own:
            vae.decode = before
        else:
            del vae.decode


def latent_frames(count: int, sizes: SizeRules) -> int:
    """Latent frames that stand for the first so many frames.

    >>> latent_frames(6, SizeRules(multiple=16, frame_stride=4))
    3
    """
    beyond = max(count - sizes.frame_start, 0)
    return (1 if sizes.frame_start else 0) + -(-beyond // sizes.frame_stride)
