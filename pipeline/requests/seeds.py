"""The seed of a clip: its row's, else the run's, else one that follows from its content.

Content is the prompt and the files that the clip starts from, and nothing else. So one prompt has
one seed in every run, whatever the model, the cache, the sampler or the size is: the clips of two
runs show the same noise and can be compared. Copies of a row have seeds of their own: copy 0 has
the row's, and the others are drawn by a hash of that seed and the copy's number, so they do not
meet the seed that the next row counts up to. The seeds of further tries at a clip follow by a hash
from one another.
"""

from __future__ import annotations

import dataclasses
import hashlib
from json.encoder import encode_basestring_ascii
from typing import Any

from pipeline.errors import RowRejectedError
from pipeline.requests.row_values import integer
from pipeline.requests.sample_request import SampleRequest, digest

MAX_SEED = 2**64 - 1
MAX_FLOAT_SEED = 2**53
"""From here on a float does not hold every whole number."""


def first_seed(row_seed: Any, run_seed: int | None, prompt: str, files: str = "") -> int:
    """Return the seed of a row's first clip.

    Args:
        row_seed: Value of the row, None if it gives none.
        run_seed: `sampling.seed`, None if it is unset.
        prompt: Of the row.
        files: What the clip starts from, as `content_of` writes it; "" without any.

    Raises:
        RowRejectedError: The row's value is not a seed.
    """
    given = run_seed if row_seed is None else row_seed
    if given is None:
        if files:
            return _drawn(["seed", prompt, files])
        return seed_of_json(encode_basestring_ascii(prompt))
    if isinstance(given, float) and abs(given) >= MAX_FLOAT_SEED:
        raise RowRejectedError(
            f"seed is {given}, a decimal number that large has lost its last digits: store seeds "
            "as whole numbers (in pandas Int64 or UInt64)"
        )
    return integer(given, "seed", 0, 0, MAX_SEED)


def seed_of_json(text: str) -> int:
    """The seed that follows from a prompt alone.

    Args:
        text: The prompt as ASCII JSON. Most of the time of an intake goes into texts and hashes.
    """
    return _first_bits(hashlib.sha256(f'["seed",{text}]'.encode("ascii")).digest())


def copy_seed(first: int, copy: int) -> int:
    """Return the seed of a row's clip.

    Args:
        first: Seed of the row's first clip.
        copy: Number of the clip among those of its row, from 0.
    """
    return first if copy == 0 else _drawn(["copy", first, copy])


def draft_seed(first: int, place: int) -> int:
    """Return the seed of one of several drafts of a clip.

    Args:
        first: Seed of the clip, which is that of its first draft.
        place: Number of the draft, from 0.
    """
    return first if place == 0 else _drawn(["draft", first, place])


def redraw_seed(seed: int) -> int:
    """Return the seed of the try after one whose clip is not good."""
    return _drawn(["redraw", seed])


def next_try(request: SampleRequest) -> SampleRequest | None:
    """Return the try after a clip that is not good; None after the last one.

    It is the same request with the next seed, a sample like any other with its own id, row and mp4.
    Which try follows depends on the request alone, so a run that was interrupted goes on with it.
    Controls have no tries of their own, nor have the clips that measure a run's profile.
    """
    if request.candidate >= request.candidates or request.control_of or request.records:
        return None
    return dataclasses.replace(
        request, seed=redraw_seed(request.seed), candidate=request.candidate + 1
    )


def _drawn(content: list[Any]) -> int:
    return _first_bits(digest(content))


def _first_bits(found: bytes) -> int:
    """48 bits of a hash: every reader of the output row can hold them exactly, also JavaScript."""
    return int.from_bytes(found[:6], "big")
