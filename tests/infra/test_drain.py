"""The head's preStop hook, in a process namespace of its own: it ends whatever it finds there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.infra.manifests import INFRA
from tests.system_tools import system_tool

DRAIN = INFRA / "docker" / "drain.sh"
DRIVER = """
import pathlib, signal, sys, time

def stopped(*_):
    time.sleep(0.5)  # finished rows are written
    pathlib.Path("rows").touch()
    sys.exit(130)

signal.signal(signal.SIGTERM, stopped)
pathlib.Path("ready").touch()
time.sleep(600)
"""


@pytest.fixture
def inside() -> list[str]:
    """Words before a command that sees no process but its own."""
    words = [system_tool("unshare"), "--user", "--map-root-user"]
    words += ["--pid", "--fork", "--mount-proc"]
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no process namespaces: run as root, outside of containers")
    return words


@pytest.mark.slow
@pytest.mark.parametrize(
    "call", ["-m jobs.generate", "jobs/generate.py", "bin/sencache-pipeline generate"]
)
def test_the_driver_writes_its_rows_and_ends_as_a_failure(
    call: str, inside: list[str], tmp_path: Path
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").touch()
    (tmp_path / "bin").mkdir()
    for path in ("jobs/generate.py", "bin/sencache-pipeline"):
        (tmp_path / path).write_text(DRIVER)
    script = f"""
        sh -c '{sys.executable} {call} --config run.yaml; echo $? > code' &
        until test -e ready; do sleep 0.1; done
        {DRAIN}
        test -e rows || exit 3
        wait
    """
    began = time.monotonic()
    done = subprocess.run(
        [*inside, "bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "code").read_text().strip() == "130"  # its shell was left alone
    assert time.monotonic() - began >= 0.5


def test_without_a_run_there_is_nothing_to_wait_for(inside: list[str]) -> None:
    subprocess.run([*inside, DRAIN], check=True, timeout=300)
