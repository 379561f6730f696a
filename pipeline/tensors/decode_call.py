"""Puts a function round the `vae.decode` of a pipeline for some calls, and takes it off again."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def decode_wrapped(pipe: Any, around: Callable[..., Any]) -> Iterator[None]:
    """Let a function stand for `vae.decode`.

    Leaving the block while that function runs is allowed. Blocks may be nested.

    Args:
        pipe: A diffusers pipeline with a VAE.
        around: Takes the decoder's own `decode` and its arguments, and returns what it returns.
    """
    vae = pipe.vae
    before: Callable[..., Any] = vae.decode
    own = "decode" in vars(vae)  # it has a wrapper of its own already
    vae.decode = functools.wraps(before)(functools.partial(around, before))
    try:
        yield
    finally:
        if own:
            vae.decode = before
        else:
            del vae.decode
