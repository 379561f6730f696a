"""An engine that is loaded, called and closed on one thread of its own, whoever asks.

What an engine holds can belong to the thread that made it: OpenMP keeps a team of threads for each
thread that has ever run a parallel loop. Loaded on one thread and called on another, the embedded
model (4M parameters) took 1.2 to 1.4 times the seconds per clip, with less CPU time, on 2 cores
with torch 2.14. That fits libgomp's rule (GOMP_SPINCOUNT): with more threads than cores it does
not spin at a barrier but sleeps. The current device of CUDA belongs to the thread as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.engine.protocol import Clip, EngineFactory
from pipeline.requests.sample_request import SampleRequest


class OwnThreadEngine:
    """See the module; otherwise the engine itself. Calls at once wait for each other."""

    def __init__(self, make: EngineFactory) -> None:
        """Load the engine.

        Args:
            make: Loads it; what it raises is raised here.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        try:
            self._engine = self._thread.submit(make).result()
        except BaseException:
            self._thread.shutdown()
            raise
        self.device_name, self.group_size = self._engine.device_name, self._engine.group_size

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """See `Engine`."""
        return self._thread.submit(self._engine.generate, requests).result()

    def close(self) -> None:
        """See `Engine`; harmless when called again."""
        try:
            closed = self._thread.submit(self._engine.close)
        except RuntimeError:  # closed before, or the interpreter is ending: any thread will do
            self._engine.close()
        else:
            closed.result()
            self._thread.shutdown()
