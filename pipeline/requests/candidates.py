"""Further tries at a clip that is not good: the same request with the next seed.

Each try is a sample like any other, with its own id, row and mp4. Which try follows depends on the
request alone, and whether one follows depends on the clip alone. So a run that was interrupted goes
on with the try that it was at.
"""

from __future__ import annotations

import dataclasses

from pipeline.requests.sample_request import SampleRequest
from pipeline.requests.seeds import redraw_seed


def next_try(request: SampleRequest) -> SampleRequest | None:
    """Return the try after a clip that is not good; None after the last one.

    Controls have no tries of their own, nor have the clips that measure a run's profile.
    """
    if request.candidate >= request.candidates or request.control_of or request.records:
        return None
    return dataclasses.replace(
        request, seed=redraw_seed(request.seed), candidate=request.candidate + 1
    )
