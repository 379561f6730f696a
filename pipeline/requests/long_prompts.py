"""Counts the texts of an input, negative ones too, that are longer than what their model reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pipeline.models.prompt_length import LocalTokenizer
from pipeline.requests.sample_request import SampleRequest
from pipeline.wording import are, counted, place_of_row


@dataclass(slots=True)
class LongPrompts:
    """Watches the requests of a run pass.

    Attributes:
        tokenizer: Of the model; None if it is not on this machine, and then nothing is counted.
        cut: Prompts of which the model does not read the end.
        alike: Those of them that a model reads as it reads another prompt of the input.
        place: Of the first of them, `file:row`.
        limit: Tokens that were read of the latest one.
        negatives: Negative prompts of which the model does not read the end.
        negative_place: Of the first row that has one of them, `file:row`.
    """

    tokenizer: LocalTokenizer | None
    cut: int = 0
    alike: int = 0
    place: str = ""
    limit: int = 0
    negatives: int = 0
    negative_place: str = ""
    _prompts: set[bytes] = field(default_factory=set, repr=False)
    _read: set[bytes] = field(default_factory=set, repr=False)
    _negatives: set[str] = field(default_factory=set, repr=False)

    def watch(self, requests: Iterable[SampleRequest]) -> Iterator[SampleRequest]:
        """Yield the requests and count their prompts, each text once."""
        for request in requests:
            if self.tokenizer is not None and not request.control_of:
                self._count(self.tokenizer, request)
                self._count_negative(self.tokenizer, request)
            yield request

    def _count(self, tokenizer: LocalTokenizer, request: SampleRequest) -> None:
        limit = request.max_sequence_length
        tokens = tokenizer.tokens(request.prompt, limit)
        if tokens is None or len(tokens) < limit:
            return
        whole = hashlib.sha256(request.prompt.encode()).digest()
        if whole in self._prompts:
            return
        self._prompts.add(whole)
        # The last token that is read ends the text, so it is the same in all of them.
        read = hashlib.sha256(repr(tokens[: limit - 1]).encode()).digest()
        self.alike += read in self._read
        self._read.add(read)
        if len(tokens) > limit:
            self.cut += 1
            self.place = self.place or request.source_key
            self.limit = limit

    def _count_negative(self, tokenizer: LocalTokenizer, request: SampleRequest) -> None:
        negative, limit = request.negative_prompt, request.max_sequence_length
        if negative in self._negatives:  # most runs have one
            return
        self._negatives.add(negative)
        tokens = tokenizer.tokens(negative, limit)
        if tokens is not None and len(tokens) > limit:
            self.negatives += 1
            self.negative_place = self.negative_place or request.source_key
            self.limit = limit

    def lines(self) -> Iterator[str]:
        """Say what is cut off, if anything is."""
        if self.cut:
            yield (
                f"{counted(self.cut, 'prompt')} {are(self.cut)} longer than the {self.limit} "
                f"tokens that the model reads (first: {place_of_row(self.place)}): the end has no "
                "effect, and the row says prompt_truncated"
            )
        if self.negatives:
            yield (
                f"{counted(self.negatives, 'negative prompt')} {are(self.negatives)} longer than "
                f"the {self.limit} tokens that the model reads (first: "
                f"{place_of_row(self.negative_place)}): the end has no effect"
            )
        if self.alike:
            yield (
                f"{counted(self.alike, 'prompt')} {are(self.alike)} like another one but for what "
                "the model does not read"
            )
