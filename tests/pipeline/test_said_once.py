"""What a process says once."""

from __future__ import annotations

import logging

import pytest

from pipeline import said_once
from pipeline.said_once import warn_once

LOGGER = logging.getLogger("test")


def test_a_warning_is_given_once_and_after_a_time_with_a_count(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(said_once.time, "monotonic", lambda: now[0])
    for seconds in (0.0, 5.0, 5.0, 60.0):
        now[0] += seconds
        warn_once(LOGGER, f"busy at {now[0]:.0f}", kind="busy", again_s=60.0)
        warn_once(LOGGER, "100 % sure")
    assert caplog.messages == [
        "busy at 100",
        "100 % sure",
        "busy at 170 (and 2 times more since this was last said)",
    ]
