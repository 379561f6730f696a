"""Every video pipeline class of the installed diffusers, and what is known of it."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection
from typing import Any

import diffusers
import pytest

from tests.sencache.support.video.base import VideoPipeline
from tests.sencache.support.video.hunyuan_like import HUNYUAN_LIKE
from tests.sencache.support.video.ltx_like import LTX_LIKE
from tests.sencache.support.video.other_families import OTHER_FAMILIES
from tests.sencache.support.video.wan_like import WAN_LIKE

SUPPORTED: dict[str, VideoPipeline] = {**WAN_LIKE, **HUNYUAN_LIKE, **LTX_LIKE, **OTHER_FAMILIES}
"""By class, with the variant in parentheses where there are several."""

BROKEN = {"EasyAnimateControlPipeline": "encode_prompt"}
"""Classes whose call always fails in this version of diffusers, and the function it fails in."""

FRAMES = {"num_frames", "frames", "video", "videos", "video_length"}


@functools.cache
def video_classes() -> dict[str, type]:
    """The classes of diffusers whose call takes or returns frames, by name; found by looking."""
    found = {}
    for name in dir(diffusers):
        cls = getattr(diffusers, name)
        if not (isinstance(cls, type) and issubclass(cls, diffusers.DiffusionPipeline)):
            continue  # classes for which a library is missing are no pipelines
        call: Any = cls.__call__
        if not inspect.isfunction(call):
            continue
        returned = re.search(r"Output\(\s*(frames|video)=", inspect.getsource(call))
        if returned or FRAMES & inspect.signature(call).parameters.keys():
            found[name] = cls
    return found


def has_transformer(cls: type) -> bool:
    """Whether pipelines of a class hold a transformer."""
    return "transformer" in inspect.signature(cls.__init__).parameters  # type: ignore[misc]


def class_of(variant: str) -> str:
    """The class of a variant."""
    return variant.partition(" (")[0]


FIRST = {re.match("LTX2?|[A-Z][a-z]+|[A-Z0-9]+", n)[0]: n for n in sorted(SUPPORTED, reverse=True)}  # type: ignore[index]
"""By the first word of their names, the variants that `make test` takes."""


def marks_of(name: str, quick: Collection[str] = ()) -> tuple[pytest.MarkDecorator, ...]:
    """The marks of a test of one variant: `quick` ones are fast, and one of each kind is slow."""
    if name in quick:
        return ()
    first = name in FIRST.values()
    return (pytest.mark.slow,) if first else (pytest.mark.slow, pytest.mark.variant)
