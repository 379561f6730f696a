"""An engine of encoded texts, which tries the largest call of a run with those of its first batch.

Without a text encoder there is nothing to try when the model has been loaded. So the trial is made
before the first batch: too little memory then shows before any step of a clip.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

from pipeline.engine.protocol import Clip, Engine
from pipeline.models.memory.preflight import LargestCall, try_largest
from pipeline.models.spec import ModelSpec
from pipeline.models.text_encoders import is_encoded
from pipeline.requests.sample_request import SampleRequest


class TriedEngine:
    """Makes the trial once, and passes all batches on.

    Attributes:
        device_name: Of the engine.
        group_size: Likewise.
    """

    def __init__(
        self, engine: Engine, largest: LargestCall | None, spec: ModelSpec, calls: int = 1
    ) -> None:
        """Wait for the first batch.

        Args:
            engine: A loaded engine on a GPU.
            largest: The largest call of the run; None where it is not known.
            spec: The model.
            calls: Calls that may overlap.
        """
        self.device_name, self.group_size = engine.device_name, engine.group_size
        self._engine, self._spec, self._calls = engine, spec, calls
        self._largest = largest
        self._lock = threading.Lock()

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """Make one clip per request, in order.

        Raises:
            UserError: The device has too little memory for the run's largest call.
        """
        with self._lock:  # a second call waits for the trial, and nothing waits for a second one
            if self._largest is not None and is_encoded(requests[0]):
                call, self._largest = self._with_texts(self._largest, requests[0]), None
                try_largest(self._engine.generate, call, self._spec, self.device_name, self._calls)
        return self._engine.generate(requests)

    def close(self) -> None:
        """Free the device."""
        self._engine.close()

    def _with_texts(self, largest: LargestCall, first: SampleRequest) -> LargestCall:
        """The largest call with the texts of a request, and with what they were encoded for."""
        request = dataclasses.replace(
            largest.request,
            prompt=first.prompt,
            negative_prompt=first.negative_prompt,
            texts=first.texts,
            max_sequence_length=first.max_sequence_length,
            guidance_scale=first.guidance_scale,
            guidance_scale_2=first.guidance_scale_2,
        )
        return dataclasses.replace(largest, request=request)
