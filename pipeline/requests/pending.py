"""Requests by the million: ids first, the requests themselves only where they are still to be made.

Building a request and hashing its JSON takes 50 microseconds, and a resumed run must do so for
every row of its input, nearly all of which are done. Requests of one input mostly differ in prompt
and seed alone, so the JSON round these two is made once. Ids are those of `build_request`, to the
byte; a property test holds that.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

from pipeline.requests.from_row import RequestDefaults, checked, given_seed
from pipeline.requests.sample_request import ID_BYTES, SampleRequest

MAX_OUTLINES = 1000
"""Kept at once; an input whose rows all differ in size or negative prompt makes its own each."""

_PROMPT, _SEED = "\0prompt", -1
"""Neither can occur in a request."""


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """Requests that differ in prompt and seed only.

    Attributes:
        base: One of them, but for these two and its source.
        head: Canonical JSON of the identity up to the prompt.
        middle: From there up to the seed.
        tail: The rest.
    """

    base: SampleRequest
    head: str
    middle: str
    tail: str

    @classmethod
    def of(cls, request: SampleRequest) -> RequestTemplate:
        """Cut the JSON of a request apart."""
        base = dataclasses.replace(request, prompt=_PROMPT, seed=_SEED)
        head, rest = base.identity_json().split(json.dumps(_PROMPT))
        middle, tail = rest.split(f'"seed":{_SEED}')
        return cls(base, head, f'{middle}"seed":', tail)


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A request that is known by its id.

    Attributes:
        sample_id: Binary.
        outline: What it shares with others.
        prompt: Its own.
        seed: Its own.
    """

    sample_id: bytes
    outline: RequestTemplate
    prompt: str
    seed: int

    def request(self, source_key: str) -> SampleRequest:
        """Build it."""
        return dataclasses.replace(
            self.outline.base, prompt=self.prompt, seed=self.seed, source_key=source_key
        )


class RequestIndex:
    """Turns rows into drafts."""

    def __init__(self, defaults: RequestDefaults) -> None:
        """Prepare for rows that inherit `defaults`."""
        self._defaults = defaults
        self._plain = RequestTemplate.of(defaults.template)
        self._outlines: dict[tuple[str, ...], RequestTemplate] = {}

    def of_row(self, row: Mapping[str, Any], copies: int) -> list[PendingRequest]:
        """The drafts of all clips of a row.

        Raises:
            RowRejectedError: See `build_request`.
        """
        fields = checked(row, self._defaults)
        prompt = fields.pop("prompt")
        outline = self._outline(fields) if fields else self._plain
        text = encode_basestring_ascii(prompt)
        before = f"{outline.head}{text}{outline.middle}"
        drafts = []
        for copy in range(copies):
            seed = given_seed(row, self._defaults, copy)
            if seed is None:
                drawn = _digest(f"[{before}0{outline.tail},{copy}]")
                seed = int.from_bytes(drawn[:6], "big")
            sample_id = _digest(f"{before}{seed}{outline.tail}")
            drafts.append(PendingRequest(sample_id, outline, prompt, seed))
        return drafts

    def _outline(self, fields: dict[str, Any]) -> RequestTemplate:
        key = tuple(map(repr, fields.values()))  # -0.0 equals 0.0, and their JSON differs
        found = self._outlines.get(key)
        if found is None:
            if len(self._outlines) >= MAX_OUTLINES:
                self._outlines.clear()
            found = RequestTemplate.of(dataclasses.replace(self._defaults.template, **fields))
            self._outlines[key] = found
        return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()[:ID_BYTES]
