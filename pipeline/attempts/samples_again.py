"""Makes samples again whose controls are to be made, where other runs or processes stored them.

A clip and its control are compared before they are encoded, because H.264 loses more than many a
cache does. So the stored clip is of no use to a control that is made later: after a stop between
the two, after the end of the process that held the frames, or where controls were asked for later.
The sample is made again in the call before the control's, with as many others, on the same device.
It stays in memory, and nothing of it is stored. The row of the control holds the seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from pipeline.attempts.call_deadline import CallDeadline
from pipeline.engine.protocol import Engine, is_fatal
from pipeline.errors import UserError, message_of
from pipeline.process import deadline
from pipeline.requests.controls import sample_of
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.control_pairs import ControlPairs

_logger = logging.getLogger(__name__)


class SamplesAgain:
    """Makes the samples of controls again with one engine."""

    def __init__(self, engine: Engine, pairs: ControlPairs, limits: CallDeadline) -> None:
        """Bind an engine.

        Args:
            engine: The loaded model.
            pairs: Knows which controls lack their sample, and keeps what is made.
            limits: How long engine calls may take.
        """
        self._engine, self._pairs, self._limits = engine, pairs, limits

    def make(self, controls: Sequence[SampleRequest], overdue: Callable[[float], None]) -> None:
        """Make what a batch of requests lacks of samples; nothing for most batches.

        The attempt at the controls is recorded, so it also bounds the tries at this. A sample that
        raises costs its control the comparison, not its row.

        Args:
            controls: The requests of the next engine call.
            overdue: Ends this process if the call takes longer than the seconds that it is given.

        Raises:
            EngineDiedError: The engine is beyond use.
            UserError: The engine cannot run with these settings.
            Exception: A fault of the device.
        """
        lacking = self._pairs.lacking(controls)
        if not lacking:
            return
        samples = [sample_of(control) for control in lacking]
        allowed_s = self._limits.allowed_s(samples)
        began = time.monotonic()
        try:
            with deadline(allowed_s, lambda: overdue(allowed_s)):
                clips = self._engine.generate(samples)
        except Exception as error:
            if isinstance(error, UserError) or is_fatal(error):
                raise
            share_s = (time.monotonic() - began) / len(lacking)
            reason = f"{type(error).__name__}: {message_of(error)}"
            _logger.warning("clips cannot be made again for their controls: %s", reason)
            for control in lacking:
                self._pairs.cannot_compare(control, reason, share_s)
            return
        share_s = (time.monotonic() - began) / len(lacking)
        self._limits.observe(samples, share_s * len(samples))
        for control, clip in zip(lacking, clips, strict=True):
            own_s = share_s if clip.engine_s is None else clip.engine_s
            self._pairs.keep_again(control, clip, own_s)

    def forget(self, controls: Sequence[SampleRequest]) -> None:
        """Drop what was made for controls whose own call raised; the attempt has its time."""
        self._pairs.forget(controls)
