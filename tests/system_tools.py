"""Programs that come from the system's packages (`infra/ci/system-packages.sh`), not from pip."""

from __future__ import annotations

import os
import shutil

import pytest


def system_tool(name: str) -> str:
    """Path of a program; skips the test where it is missing, fails it where it must be there.

    CI sets REQUIRE_SYSTEM_TOOLS=1, so that no test is skipped for a missing program there.
    """
    path = shutil.which(name)
    if path is None:
        why = f"{name} is not installed: run infra/ci/system-packages.sh"
        if os.environ.get("REQUIRE_SYSTEM_TOOLS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return path
