"""An engine that is loaded, called and closed on threads of its own, whichever thread asks.

What an engine holds can belong to the thread that made it. OpenMP keeps a team of threads for each
thread that has ever run a parallel loop: loaded on one thread and called on another, the embedded
model (4M parameters) took 1.2 to 1.4 times the seconds per clip, with less CPU time, on 2 cores
with torch 2.14. That fits libgomp's rule (GOMP_SPINCOUNT): with more threads than cores it sleeps
at a barrier instead of spinning. The current CUDA device belongs to a thread as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.engine.protocol import Clip, EngineDiedError, EngineFactory
from pipeline.requests.sample_request import SampleRequest


class OwnThreadEngine:
    """An `Engine` that passes every call to the engine on its threads.

    With one thread, calls wait for each other. An engine that is called on several must order what
    they do itself.
    """

    def __init__(self, make: EngineFactory, threads: int = 1) -> None:
        """Load the engine.

        Args:
            make: Loads it; its exceptions are raised here.
            threads: Calls that the engine serves at once.
        """
        self._thread = ThreadPoolExecutor(threads, thread_name_prefix="engine")
        try:
            self._engine = self._thread.submit(make).result()
        except BaseException:
            self._thread.shutdown()
            raise
        self.device_name, self.group_size = self._engine.device_name, self._engine.group_size

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """Make one clip per request, in order; raises what the engine raises.

        Raises:
            EngineDiedError: The engine was closed.
        """
        try:
            made = self._thread.submit(self._engine.generate, requests)
        except RuntimeError as error:
            raise EngineDiedError("the engine is closed") from error
        return made.result()

    def close(self) -> None:
        """Close the engine; harmless when called again."""
        try:
            closed = self._thread.submit(self._engine.close)
        except RuntimeError:  # closed before, or the interpreter ends: use this thread
            self._engine.close()
        else:
            self._thread.shutdown(wait=False)  # whatever `close` raises, no later call is served
            closed.result()
            self._thread.shutdown()
