"""An engine that is loaded, called and closed on one thread of its own, whoever asks.

What an engine holds can belong to the thread that made it: OpenMP keeps a team of threads for each
thread that has ever run a parallel loop, and with the loading thread's idle team beside the calling
one's, there are more threads than cores; libgomp then lets them sleep at every barrier instead of
waiting actively (1.25 times the seconds per clip of a 10M-parameter model on 2 cores, torch 2.14).
The current device of CUDA belongs to the thread as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.engine import Clip, EngineFactory
from pipeline.request import SampleRequest


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
