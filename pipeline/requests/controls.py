"""Controls: the uncached twins of some samples, by which a cache is judged.

Which samples have a control depends on their ids alone, so a resumed run chooses the same ones. A
sample and its control travel to a worker as one unit. The worker makes them one after the other, in
engine calls of the same number of samples: same run, same device, same batch size. How their frames
are compared: `pipeline.scoring.control_pairs`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from pipeline.requests.sample_request import CacheIdentity, SampleRequest, digest


def is_chosen(sample_id: str, fraction: float) -> bool:
    """Say whether a sample has a control; a larger fraction keeps the choice of a smaller one."""
    if fraction <= 0.0:
        return False
    # The id is hashed again because people split datasets by the first digits of ids, and each
    # split should have its share of controls.
    drawn = int.from_bytes(digest(["control", sample_id])[:8], "big") / 2**64
    return drawn < fraction


def control_for(request: SampleRequest) -> SampleRequest:
    """Return the uncached twin of a request; everything else, also the seed, is equal."""
    return dataclasses.replace(request, cache=CacheIdentity(), control_of=request.sample_id)


def units(requests: Iterable[SampleRequest]) -> Iterator[list[SampleRequest]]:
    """Group each sample with its control, which comes right after it."""
    unit: list[SampleRequest] = []
    for request in requests:
        if unit and request.control_of and request.control_of == unit[0].sample_id:
            unit.append(request)
            continue
        if unit:
            yield unit
        unit = [request]
    if unit:
        yield unit


def pack(unit: Sequence[SampleRequest]) -> str:
    """Write a unit as text, one request a line; the JSON of a request has no line breaks."""
    return "\n".join(request.to_json() for request in unit)


def unpack(text: str) -> list[SampleRequest]:
    """Read a unit that `pack` wrote."""
    return [SampleRequest.from_json(line) for line in text.split("\n")]
