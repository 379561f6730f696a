"""What a pipeline's call takes, and guidance that is not an argument of it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any


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
