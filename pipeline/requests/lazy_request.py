"""Computes the sample ids of a whole input without building every request.

Building a request and hashing its JSON takes 50 microseconds. A resumed run needs the id of every
row of its input, and nearly all of those are already made. Requests of one input mostly differ in
prompt and seed alone, so the JSON around these two is made once and shared. The ids are exactly
those of `pipeline.requests.from_row.build_request`; a property test checks that.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

from pipeline.prompts.condition_columns import content_of
from pipeline.requests.controls import digest_of_content
from pipeline.requests.from_row import RequestDefaults, checked_fields
from pipeline.requests.sample_request import ID_BYTES, SampleRequest
from pipeline.requests.seeds import copy_seed, first_seed, seed_of_json

MAX_TEMPLATES = 1000
"""Templates that are kept; rows that all differ in size or negative prompt need one each."""

_PROMPT, _SEED = "\0prompt", -1
"""Placeholders; neither can occur in a request."""


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """What requests share that differ in prompt and seed only.

    Attributes:
        base: A request with placeholders for prompt and seed.
        head: Canonical JSON of the identity up to the prompt.
        middle: The JSON between prompt and seed.
        tail: The JSON after the seed.
    """

    base: SampleRequest
    head: str
    middle: str
    tail: str

    @classmethod
    def of(cls, request: SampleRequest) -> RequestTemplate:
        """Split the JSON of a request at its prompt and its seed."""
        base = dataclasses.replace(request, prompt=_PROMPT, seed=_SEED)
        head, rest = base.identity_json().split(json.dumps(_PROMPT))
        middle, tail = rest.split(f'"seed":{_SEED}')
        return cls(base, head, f'{middle}"seed":', tail)


@dataclass(frozen=True, slots=True)
class LazyRequest:
    """A request of which only the id is computed.

    Attributes:
        sample_id: Binary.
        template: What it shares with other requests.
        prompt: Its prompt.
        seed: Its seed.
    """

    sample_id: bytes
    template: RequestTemplate
    prompt: str
    seed: int

    def content(self) -> bytes:
        """What the clip shows (`pipeline.requests.controls.content_digest`)."""
        return digest_of_content(self.prompt, content_of(self.template.base.conditions), self.seed)

    def build(self, source_key: str, source: str = "") -> SampleRequest:
        """Build the request of a row at a place, with the JSON of its other columns."""
        return dataclasses.replace(
            self.template.base,
            prompt=self.prompt,
            seed=self.seed,
            source_key=source_key,
            source=source,
        )


class LazyRequests:
    """Turns rows into lazy requests."""

    def __init__(self, defaults: RequestDefaults) -> None:
        """Prepare for rows that inherit `defaults`."""
        self._defaults = defaults
        self._default_template = RequestTemplate.of(defaults.settled(defaults.template))
        self._templates: dict[tuple[str, ...], RequestTemplate] = {}

    def of_row(self, row: Mapping[str, Any], copies: int) -> list[LazyRequest]:
        """Return the requests of all clips of a row.

        Raises:
            RowRejectedError: The row is not valid, as in `build_request`.
        """
        fields = checked_fields(row, self._defaults)
        prompt = fields.pop("prompt")
        template = self._template(fields) if fields else self._default_template
        text = encode_basestring_ascii(prompt)
        before = f"{template.head}{text}{template.middle}"
        first = first_seed(
            row.get("seed"), self._defaults.seed, prompt, content_of(fields.get("conditions", ()))
        )
        requests = []
        for copy in range(copies):
            seed = copy_seed(first, copy)
            sample_id = _digest(f"{before}{seed}{template.tail}")
            requests.append(LazyRequest(sample_id, template, prompt, seed))
        return requests

    @property
    def makes_plain(self) -> bool:
        """Whether a row that sets nothing but its prompt and its seed can be a request at all."""
        base, sizes = self._defaults.template, self._defaults.sizes
        return not (
            self._defaults.conditions
            or sizes.problem(base.width, base.height, base.num_frames)
            or self._defaults.steps_problem(base.num_inference_steps)
        )

    def plain_ids(
        self, prompts: Sequence[str], seeds: Sequence[int | None], copies: int
    ) -> tuple[list[bytes], list[int]]:
        """Return the ids and the seeds of all clips of rows that set nothing else.

        Args:
            prompts: Valid ones.
            seeds: Valid ones; None where a row gives none.
            copies: Clips of each row.
        """
        template, run_seed = self._default_template, self._defaults.seed
        ids, all_seeds = [], []
        for prompt, row_seed in zip(prompts, seeds, strict=True):
            text = encode_basestring_ascii(prompt)
            before = f"{template.head}{text}{template.middle}"
            given = run_seed if row_seed is None else row_seed
            first = seed_of_json(text) if given is None else given
            for copy in range(copies):
                seed = copy_seed(first, copy)
                ids.append(_digest(f"{before}{seed}{template.tail}"))
                all_seeds.append(seed)
        return ids, all_seeds

    def plain(self, sample_id: bytes, prompt: str, seed: int) -> LazyRequest:
        """Return the request of one of these clips."""
        return LazyRequest(sample_id, self._default_template, prompt, seed)

    def _template(self, fields: dict[str, Any]) -> RequestTemplate:
        key = tuple(map(repr, fields.values()))  # -0.0 equals 0.0, but their JSON differs
        found = self._templates.get(key)
        if found is None:
            if len(self._templates) >= MAX_TEMPLATES:
                self._templates.clear()
            request = dataclasses.replace(self._defaults.template, **fields)
            found = RequestTemplate.of(self._defaults.settled(request))
            self._templates[key] = found
        return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()[:ID_BYTES]
