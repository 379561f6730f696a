"""Lets one call of a pipeline decode while the next one samples, and shares out the device's time.

A diffusers pipeline decodes inside its call, after the last step. A call that may overlap runs on a
shallow copy of the pipeline, and passes the networks on to the next call when it comes to
`vae.decode`. By then everything of the call that lives in the networks, such as its cache, must be
gone: the caller removes it there.

Two calls at most are under way: one samples, one decodes. On a GPU each has a stream of its own.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from pipeline.tensors.decode_call import decode_wrapped


class BusyTime:
    """Shares the time of a device among the calls that use it: two at once are charged half each.

    So the seconds of all calls add up to the time in which the device was used.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no call.

        Args:
            clock: Monotonic seconds.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._using: set[CallTurn] = set()
        self._since = clock()

    def begin(self, turn: CallTurn) -> None:
        """A call uses the device from now on."""
        with self._lock:
            self._share_out()
            self._using.add(turn)

    def pause(self, turn: CallTurn) -> None:
        """A call does not use the device until it begins again; harmless if it does not now."""
        with self._lock:
            self._share_out()
            self._using.discard(turn)

    def _share_out(self) -> None:
        now = self._clock()
        for turn in self._using:
            turn.busy_s += (now - self._since) / len(self._using)
        self._since = now


class CallTurn:
    """One call's use of the networks, and then of the decoder.

    Attributes:
        overlaps: Whether the call lets the next one sample while it decodes.
        busy_s: Seconds of the device that it is charged with.
    """

    def __init__(self, turns: DecodeTurns, *, overlaps: bool) -> None:
        """Made by `DecodeTurns.turn`."""
        self._turns = turns
        self._holds_networks = self._holds_decoder = False
        self.overlaps, self.busy_s = overlaps, 0.0

    def take(self) -> None:
        """Wait for the networks; a call that does not overlap waits for the decoder as well."""
        self._turns.networks.acquire()
        self._holds_networks = True
        if not self.overlaps:
            self._turns.decoder.acquire()
            self._holds_decoder = True
        self._turns.busy.begin(self)

    def pass_on(self) -> None:
        """Exchange the networks for the decoder: from here on the next call may sample.

        The latents must be complete, because the next call's kernels do not wait for this one's.
        """
        if not self.overlaps or not self._holds_networks:
            return
        if torch.cuda.is_available():
            torch.cuda.current_stream().synchronize()
        self._turns.busy.pause(self)
        self._turns.decoder.acquire()
        self._holds_decoder = True
        self._turns.busy.begin(self)
        self._turns.networks.release()
        self._holds_networks = False

    def end(self) -> None:
        """Give back what the call holds."""
        self._turns.busy.pause(self)
        if self._holds_networks:
            self._turns.networks.release()
        if self._holds_decoder:
            self._turns.decoder.release()
        self._holds_networks = self._holds_decoder = False


class DecodeTurns:
    """Who samples and who decodes on one device."""

    def __init__(self, *, beside: bool) -> None:
        """Begin with both free.

        Args:
            beside: Whether calls may overlap at all.
        """
        self._beside = beside
        self.networks, self.decoder = threading.Lock(), threading.Lock()
        self.busy = BusyTime()

    @contextlib.contextmanager
    def turn(self, device: torch.device, *, overlaps: bool) -> Iterator[CallTurn]:
        """One call, from its first use of the networks to its frames.

        Args:
            device: Where it computes.
            overlaps: Whether this call may overlap: one that uses the decoder while it samples may
                not, nor one that samples again after it has decoded.
        """
        turn = CallTurn(self, overlaps=overlaps and self._beside)
        stream: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if turn.overlaps and device.type == "cuda":
            stream = torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        try:
            turn.take()
            with stream:
                yield turn
        finally:
            turn.end()


def apart(pipe: Any) -> Any:
    """A shallow copy of a pipeline, for one call: the same parts, its own settings of the call.

    The end of a call resets the state of all networks (`maybe_free_model_hooks`, diffusers 0.42),
    where the next call may be sampling by then. A call that overlaps has nothing to free.
    """
    own = copy.copy(pipe)
    own.maybe_free_model_hooks = _nothing
    return own


def _nothing() -> None:
    """Free no model."""


@contextlib.contextmanager
def before_decoding(pipe: Any, ready: Callable[[], None]) -> Iterator[None]:
    """Call a function when a pipeline comes to `vae.decode`, before it decodes.

    Leaving the block while that function runs is allowed.

    Args:
        pipe: A diffusers pipeline.
        ready: Called at every decode inside the block, in the thread of the call.
    """

    def decode(before: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        ready()
        return before(*args, **kwargs)

    with decode_wrapped(pipe, decode):
        yield
