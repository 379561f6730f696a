"""What a pipeline's call takes, and what is no argument of it: guidance, and the frames to decode.

The decoder of Wan's VAE is causal: a frame depends on the latents up to its own time alone
(`AutoencoderKLWan._decode`, diffusers 0.42, decodes one latent frame after the other). So the first
frames of a draft come out as they would in the whole clip.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.models.sizes import SizeRules
from pipeline.tensors.decode_call import decode_wrapped

CAUSAL = frozenset({"AutoencoderKLWan"})
"""VAE classes that decode the first latents as if the others followed."""


def callback_arguments(pipe: Any, callback: Callable[..., Any]) -> dict[str, Any]:
    """The step callback as an argument; none for a pipeline whose call takes no callback."""
    name = "callback_on_step_end"
    return {name: callback} if name in inspect.signature(type(pipe).__call__).parameters else {}


@contextlib.contextmanager
def guidance_set(pipe: Any, scale: float) -> Iterator[None]:
    """Give a request's scale to a pipeline that keeps its guidance in a `guider`.

    The saved guider comes back afterwards. Enter it before the cache is applied. It does nothing
    for a pipeline without a guider.

    Args:
        pipe: A diffusers pipeline.
        scale: Guidance scale; 1 or less turns guidance off.
    """
    saved = getattr(pipe, "guider", None)
    if saved is None:
        yield
        return
    pipe.guider = saved.new(guidance_scale=scale, enabled=scale > 1.0)
    try:
        yield
    finally:
        pipe.guider = saved


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

    def decode(before: Callable[..., Any], z: Any, *args: Any, **kwargs: Any) -> Any:
        return before(z[:, :, :latents], *args, **kwargs)

    with decode_wrapped(pipe, decode):
        yield


def latent_frames(count: int, sizes: SizeRules) -> int:
    """Latent frames that stand for the first so many frames.

    >>> latent_frames(6, SizeRules(multiple=16, frame_stride=4))
    3
    """
    beyond = max(count - sizes.frame_start, 0)
    return (1 if sizes.frame_start else 0) + -(-beyond // sizes.frame_stride)
