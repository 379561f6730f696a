"""Programs that come from the system's packages (`infra/ci/system-packages.sh`), not from pip."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = "infra/ci/system-packages.sh"


def missing_tools() -> list[str]:
    """A line about each missing program: its name, and how to get it."""
    command = [Path(__file__).parents[1] / SCRIPT, "--check"]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True).stderr.splitlines()


def system_tool(name: str) -> str:
    """Path of a program; skips the test where it is missing, fails it where it must be there.

    CI sets REQUIRE_SYSTEM_TOOLS=1, so that no test is skipped for a missing program there.
    """
    path = shutil.which(name)
    if path is None:
        why = f"{name} is not installed: run {SCRIPT}"
        if os.environ.get("REQUIRE_SYSTEM_TOOLS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return path
