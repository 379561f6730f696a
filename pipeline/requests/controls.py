"""Controls: the uncached twins of some samples, by which a cache is judged.

Of a run with quantised weights they are in full precision too, so they tell what both cost.

Which samples have a control depends on their content alone (prompt, condition files and seed), so a
resumed run chooses the same ones, and so do runs with other cache settings. A sample and its
control travel to a worker as one unit. The worker makes them one after the other, in engine calls
of the same number of samples: same run, same device, same batch size. Where an earlier run or
process made the sample, the worker makes it again beside the control, in memory alone. How their
frames are compared: `pipeline.scoring.control_pairs`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence

from pipeline.prompts.condition_columns import content_of
from pipeline.requests.sample_request import CacheIdentity, SampleRequest


def content_digest(request: SampleRequest) -> bytes:
    """32 bytes that follow from what a clip shows: its prompt, its files and its seed."""
    return digest_of_content(request.prompt, content_of(request.conditions), request.seed)


def digest_of_content(prompt: str, files: str, seed: int) -> bytes:
    """The same from the three alone, the files as `content_of` writes them."""
    text = "\0".join((prompt, files, str(seed))).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=32).digest()


def is_chosen(content: bytes, fraction: float) -> bool:
    """Say whether a sample has a control; a larger fraction keeps the choice of a smaller one.

    Args:
        content: From `content_digest`.
        fraction: Share of the samples that have one.
    """
    if fraction <= 0.0:
        return False
    # Hashed again, so that the clips that a run makes first are no more often chosen than others.
    drawn = int.from_bytes(hashlib.blake2b(content, digest_size=8, person=b"control").digest())
    return drawn / 2**64 < fraction


def control_for(request: SampleRequest) -> SampleRequest:
    """Return the uncached, unquantised twin of a request; all else, also the seed, is equal."""
    return dataclasses.replace(
        request,
        cache=CacheIdentity(),
        quantisation="",
        control_of=request.sample_id,
        sample_cache=request.cache,
        sample_quantisation=request.quantisation,
        candidate=1,
        candidates=1,
        drafts="",
    )


def sample_of(control: SampleRequest) -> SampleRequest:
    """Return the request of the sample whose control this is; it has the id `control_of`.

    Raises:
        ValueError: The control does not name the cache of its sample.
    """
    if control.sample_cache is None:
        raise ValueError(f"control {control.sample_id} does not say how its sample is cached")
    return dataclasses.replace(
        control,
        cache=control.sample_cache,
        quantisation=control.sample_quantisation,
        control_of="",
        sample_cache=None,
        sample_quantisation="",
    )


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
