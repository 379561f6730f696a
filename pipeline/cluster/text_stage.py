"""Text encoding as a stage of its own, so that its encoder need not lie on every group's devices.

Actors that hold the text encoders alone add one column to the requests; its bytes pass through
Ray's object store to whichever group makes the clip. No ledger watches them: a text that kills its
encoder's process, which no known one does, would be tried for ever.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence

import pyarrow as pa

from pipeline.engine.protocol import TextEncoder, batch_key
from pipeline.requests.controls import unpack
from pipeline.requests.sample_request import SampleRequest

logger = logging.getLogger(__name__)

TEXTS_COLUMN = "texts"
"""Encoded texts, one entry per packed unit: a control has those of its sample."""


class TextActor:
    """Text encoders behind Ray Data's callable-class interface."""

    def __init__(self, make: Callable[[], TextEncoder], column: str, batch_rows: int) -> None:
        """Load the encoders.

        Args:
            make: Loads them.
            column: Of the packed requests.
            batch_rows: Most texts at once; that of the engine, whose batches then find the very
                numbers that they would have computed.
        """
        self._encode, self._column, self._batch_rows = make(), column, batch_rows

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add the texts of each unit."""
        firsts = [unpack(text)[0] for text in batch[self._column].to_pylist()]
        alike: dict[tuple[object, ...], list[int]] = {}
        for row, request in enumerate(firsts):
            alike.setdefault(batch_key(request), []).append(row)
        encoded = [b""] * len(firsts)
        for rows in alike.values():
            for start in range(0, len(rows), self._batch_rows):
                some = rows[start : start + self._batch_rows]
                texts = self._encoded([firsts[row] for row in some])
                for row, text in zip(some, texts, strict=True):
                    encoded[row] = text
        return batch.append_column(TEXTS_COLUMN, pa.array(encoded, pa.large_binary()))

    def _encoded(self, requests: list[SampleRequest]) -> list[bytes]:
        from pipeline.models.text_encoders import failed_text

        try:
            return self._encode(requests)
        except Exception as error:  # noqa: BLE001 - it becomes the error of the sample's row
            if len(requests) > 1:
                return [text for request in requests for text in self._encoded([request])]
            logger.warning("a text could not be encoded: %s", error)
            return [failed_text(error)]


def with_texts(requests: Sequence[SampleRequest], texts: bytes) -> list[SampleRequest]:
    """A unit's requests with what the stage made of their texts."""
    return [dataclasses.replace(request, texts=texts) for request in requests]
