"""How long an engine call may take: what the run allows, or less where earlier calls were short.

The limit of a run must hold for the slowest call of any model, so a call that hangs would keep its
device for hours. After the first call of a kind, the process knows better.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.ranks.timeouts import AdaptiveTimeout
from pipeline.requests.sample_request import SampleRequest

FACTOR = 5.0
"""A call may take this many times the longest one of its kind: clips under one threshold differ in
the steps that they compute."""

FLOOR_S = 600.0
"""Always allowed, whatever was learnt: a model compiles anew, or a volume is slow."""


class CallDeadline:
    """The limits of the engine calls of one process."""

    def __init__(self, most_s: float) -> None:
        """Begin with the limit of the run.

        Args:
            most_s: Longest engine call in seconds; infinite for none.
        """
        self._most_s = most_s
        self._timeout = AdaptiveTimeout(first_s=most_s, factor=FACTOR, floor_s=FLOOR_S)

    def allowed_s(self, batch: Sequence[SampleRequest]) -> float:
        """Longest time in seconds that a call with this batch may take."""
        return min(self._most_s, self._timeout.allowed_s(_kind(batch[0]), len(batch)))

    def observe(self, batch: Sequence[SampleRequest], seconds: float) -> None:
        """Learn from a call that has come back."""
        self._timeout.observe(_kind(batch[0]), seconds, len(batch))


def _kind(request: SampleRequest) -> str:
    """What a call's time depends on, besides the number of its rows."""
    size = f"{request.width}x{request.height}x{request.num_frames}"
    guided = request.guidance_scale > 1.0
    return f"{size} {request.num_inference_steps} {guided} {request.quantisation} {request.cache}"
