import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.cluster import connection
from pipeline.cluster.connection import await_gpus, check_gpus, connected
from pipeline.errors import UserError


class Scaling:
    """A cluster that gets a GPU node some seconds after a request; only sleeping passes time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after_s: float) -> None:
        self.now, self.asked, self._after_s = 0.0, list[Any](), after_s
        monkeypatch.setattr(ray, "nodes", self._nodes)
        monkeypatch.setattr(connection, "request_resources", self._ask)

    def _ask(self, bundles: list[dict[str, int]]) -> None:
        self.asked.append(bundles)

    def _nodes(self) -> list[dict[str, Any]]:
        there = bool(self.asked) and self.now >= self._after_s
        return [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": 4.0 if there else 2.0}}]

    def wait(self, degree: int, seconds: float) -> None:
        def sleep(seconds: float) -> None:
            self.now += seconds

        await_gpus(degree, seconds, clock=lambda: self.now, sleep=sleep)


def test_the_first_gpus_of_a_cluster_that_scales_to_zero_are_asked_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scaling = Scaling(monkeypatch, after_s=62)
    scaling.wait(4, 1800)
    assert 62 <= scaling.now < 70
    assert scaling.asked == [[{"GPU": 4}], []]


@pytest.mark.parametrize(("degree", "seconds"), [(2, 1800.0), (4, 0.0)])
def test_nothing_is_asked_where_gpus_are_there_or_no_wait_is_wanted(
    monkeypatch: pytest.MonkeyPatch, degree: int, seconds: float
) -> None:
    scaling = Scaling(monkeypatch, after_s=62)
    scaling.wait(degree, seconds)
    assert (scaling.now, scaling.asked) == (0.0, [])


def test_a_wait_for_gpus_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    scaling = Scaling(monkeypatch, after_s=1e9)
    scaling.wait(4, 30)
    assert scaling.now == 30
    assert scaling.asked == [[{"GPU": 4}], []]


def test_gpus_that_this_machine_has_not_are_refused_before_ray_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(connection, "own_gpus", lambda: 1)
    check_gpus(0.0)
    check_gpus(1.0)
    with pytest.raises(UserError, match=r"^--gpus 1\.5: this machine has 1 GPU; leave it out"):
        check_gpus(1.5)
    with pytest.raises(UserError, match=r"^--gpus -1: should be 0 or more$"):
        check_gpus(-1.0)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    check_gpus(8.0)


def test_ray_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 110)  # longer than the name of a socket may be
    folder.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    said = r"Ray cannot start on this machine: .*107 bytes"
    with pytest.raises(UserError, match=said) as raised, connected():
        pass
    text = str(raised.value)
    assert "\n" not in text
    assert "its logs are in the folder ray of" in text
    assert not ray.is_initialized()


@pytest.mark.parametrize(("slow_starts", "works"), [(1, True), (2, False)])
def test_ray_that_is_slow_is_started_once_more(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    slow_starts: int,
    works: bool,
) -> None:
    starts: list[dict[str, object]] = []

    def start(**settings: object) -> None:
        starts.append(settings)
        if len(starts) <= slow_starts:
            raise Exception("The current node timed out during startup. This could happen")

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    expected = contextlib.nullcontext() if works else pytest.raises(UserError, match="timed out")
    with expected, connected() as may_grow:
        assert not may_grow
    assert len(starts) == 2
    assert starts[0] == starts[1]
    assert capsys.readouterr().err == "Ray took too long to start; starting it once more\n"


@pytest.mark.slow
def test_without_the_names_that_only_linux_has_it_imports_and_counts_cores() -> None:
    asked = """
import errno, os
del errno.EREMOTEIO, os.sched_getaffinity
from pipeline.storage.faults import is_transient
from pipeline.cluster.connection import own_cores
print(own_cores() == os.cpu_count(), is_transient(OSError(errno.ESTALE, "x")))
"""
    command = [sys.executable, "-c", asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "True True\n", done.stderr


@pytest.mark.slow
def test_a_private_cluster_refuses_whoever_has_no_token_and_no_other_follows_it() -> None:
    stranger = "import ray, sys; ray.init(sys.argv[1])"
    asked = f"""
import os, subprocess, sys
import ray
from pipeline.cluster.connection import connected

with connected():
    address = ray.get_runtime_context().gcs_address
    env = os.environ | {{"RAY_AUTH_MODE": "disabled"}}
    done = subprocess.run(
        [sys.executable, "-c", {stranger!r}, address], env=env, capture_output=True, text=True
    )
    print(done.returncode, "AuthenticationError" in done.stderr)
try:
    ray.put(1)  # as a thread of Ray Data may, while an interrupted run ends
except Exception as error:
    print(type(error).__name__)
print(ray.is_initialized())
"""
    hidden = ("RAY_ADDRESS", "RAY_AUTH_MODE")
    env = {name: text for name, text in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", asked], env=env, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert ("1 True" in lines, lines[-1]) == (True, "False")
