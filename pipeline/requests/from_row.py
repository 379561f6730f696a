"""One input row to a request: what it may say, what it inherits, and why it is refused.

Knows nothing of file formats (`pipeline.prompts.reader`) and of what is made already
(`pipeline.requests.intake`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RowRejectedError
from pipeline.prompts.prompt_file import ImageRef
from pipeline.requests.sample_request import SampleRequest, digest

MAX_PROMPT_CHARS = 10_000
MAX_PIXELS_PER_CLIP = 4096 * 4096 * 64
MAX_STEPS = 1000
MAX_FPS = 240
MAX_GUIDANCE = 100.0
MAX_SEED = 2**63 - 1

_INTEGERS = {
    "num_inference_steps": (1, MAX_STEPS),
    "width": (1, 16_384),
    "height": (1, 16_384),
    "num_frames": (1, 100_000),
    "fps": (1, MAX_FPS),
}
_OWN = frozenset({"negative_prompt", *_INTEGERS, "guidance_scale"})
"""What a row may say for itself, prompt and seed apart."""


@dataclass(frozen=True, slots=True)
class RequestDefaults:
    """What a row inherits when it does not say otherwise, and the sizes its model can make.

    Attributes:
        template: A request whose prompt, seed and source_key are placeholders.
        seed: Base seed; None derives each seed from the other fields of the request.
        size_multiple: Width and height must be multiples of this (VAE stride x patch), pixels.
        frame_stride: num_frames must be 1 + k x frame_stride (temporal VAE stride).
        takes_image: Every clip starts from an image; without this a row's image is ignored.
        min_frames: Shortest clip of the model, frames.
    """

    template: SampleRequest
    seed: int | None
    size_multiple: int
    frame_stride: int
    takes_image: bool = False
    min_frames: int = 1


def build_request(
    row: Mapping[str, Any], defaults: RequestDefaults, source_key: str, copy: int = 0
) -> SampleRequest:
    """Turn one input row into a request.

    Args:
        row: Column name to value; None means "not given". Unknown columns are ignored. The image
            of a model that takes one is an `ImageRef`.
        defaults: Inherited values and the model's size rules.
        source_key: Where the row stands in the input.
        copy: Which of `samples_per_prompt` clips this is; it only moves the seed.

    Returns:
        A validated request with its seed resolved.

    Raises:
        RowRejectedError: The row cannot be made; the text says which field and what would be right.
    """
    fields = checked(row, defaults)
    request = dataclasses.replace(defaults.template, source_key=source_key, seed=0, **fields)
    seed = given_seed(row, defaults, copy)
    if seed is None:
        # 48 bits: exact in every reader of the row, JavaScript included.
        seed = int.from_bytes(digest([request.identity(), copy])[:6], "big")
    return dataclasses.replace(request, seed=seed)


def checked(row: Mapping[str, Any], defaults: RequestDefaults) -> dict[str, Any]:
    """What a row settles of its requests, seed apart; see `build_request`.

    Returns:
        The prompt, and all of `_OWN` in a fixed order if the row says anything of them.

    Raises:
        RowRejectedError: The row cannot be made.
    """
    fields: dict[str, Any] = {"prompt": _text(row.get("prompt"), "prompt", required=True)}
    base = defaults.template
    size = base.width, base.height, base.num_frames
    for name in row.keys() & _OWN:
        if row[name] is not None:
            fields |= _own_fields(row, base)
            size = fields["width"], fields["height"], fields["num_frames"]
            break
    if defaults.takes_image:
        image = row.get("image")
        if not isinstance(image, ImageRef):
            raise RowRejectedError("image is missing: this model starts from one")
        fields |= {"image": image.sha256, "image_at": image.at}
    problem = size_problem(
        *size, defaults.size_multiple, defaults.frame_stride, defaults.min_frames
    )
    if problem:
        raise RowRejectedError(problem)
    return fields


def given_seed(row: Mapping[str, Any], defaults: RequestDefaults, copy: int) -> int | None:
    """The seed that a row or the configuration gives to a copy; None where it is derived.

    Raises:
        RowRejectedError: The row's seed is none.
    """
    given = row.get("seed")
    if given is None:
        given = defaults.seed
    return None if given is None else _integer(given, "seed", 0, 0, MAX_SEED - copy) + copy


def _own_fields(row: Mapping[str, Any], base: SampleRequest) -> dict[str, Any]:
    negative = row.get("negative_prompt")
    fields: dict[str, Any] = {
        "negative_prompt": base.negative_prompt
        if negative is None
        else _text(negative, "negative_prompt", required=False)
    }
    for name, (low, high) in _INTEGERS.items():
        fields[name] = _integer(row.get(name), name, getattr(base, name), low, high)
    fields["guidance_scale"] = _number(
        row.get("guidance_scale"), "guidance_scale", base.guidance_scale, 0.0, MAX_GUIDANCE
    )
    return fields


def size_problem(
    width: int,
    height: int,
    num_frames: int,
    size_multiple: int,
    frame_stride: int,
    min_frames: int = 1,
) -> str:
    """Say why a model cannot make this size, naming the nearest sizes it can; "" if it can."""
    for name, value in (("width", width), ("height", height)):
        if value % size_multiple:
            low = max(size_multiple, value - value % size_multiple)
            near = (
                f"{low} or {low + size_multiple}" if value > size_multiple else f"{size_multiple}"
            )
            return f"{name} {value} is not a multiple of {size_multiple}: use {near}"
    if num_frames < min_frames:
        return f"num_frames {num_frames} is too few for this model: use {min_frames} or more"
    if (num_frames - 1) % frame_stride:
        low = num_frames - (num_frames - 1) % frame_stride
        return (
            f"num_frames {num_frames} is not 1 + a multiple of {frame_stride}: "
            f"use {low} or {low + frame_stride}"
        )
    if width * height * num_frames > MAX_PIXELS_PER_CLIP:
        return (
            f"{width}x{height}x{num_frames} is {width * height * num_frames:,} pixels per clip, "
            f"more than the limit of {MAX_PIXELS_PER_CLIP:,}"
        )
    return ""


def rejected_id(row: Mapping[str, Any], source_key: str) -> str:
    """Identity of a row that cannot become a request: its place and what it holds."""
    shown = {str(key): repr(value)[:MAX_PROMPT_CHARS] for key, value in row.items()}
    return digest({"rejected": shown, "source_key": source_key}).hex()


def _text(value: Any, name: str, *, required: bool) -> str:
    if not isinstance(value, str):
        raise RowRejectedError(f"{name} is {_kind(value)}, not text")
    if required and not value.strip():
        raise RowRejectedError(f"{name} is empty")
    if len(value) > MAX_PROMPT_CHARS:
        raise RowRejectedError(
            f"{name} has {len(value):,} characters, more than the limit of {MAX_PROMPT_CHARS:,}"
        )
    if "\x00" in value:
        raise RowRejectedError(f"{name} holds a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RowRejectedError(f"{name} holds a lone surrogate: not valid Unicode text") from None
    return value


def _number(value: Any, name: str, default: float, low: float, high: float) -> float:
    if value is None:
        return float(default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RowRejectedError(f"{name} is {_kind(value)}, not a number")
    number = float(value) if abs(value) <= 2**63 else math.inf
    if not low <= number <= high:
        raise RowRejectedError(f"{name} is {value}, outside {low:g} to {high:g}")
    return number


def _integer(value: Any, name: str, default: int, low: int, high: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RowRejectedError(f"{name} is {_kind(value)}, not a whole number")
    if isinstance(value, float) and not value.is_integer():
        # Readers hand integer columns with gaps over as floats: 3.0 is 3, 3.5 is a mistake.
        raise RowRejectedError(f"{name} is {value}, not a whole number")
    number = int(value)
    if not low <= number <= high:
        raise RowRejectedError(f"{name} is {number}, outside {low} to {high}")
    return number


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__} ({str(value)[:40]!r})"
