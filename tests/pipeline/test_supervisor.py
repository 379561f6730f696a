"""What the process above a driver says and does when the driver cannot."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.dataset.manifest import Manifest
from pipeline.native_stderr import NativeStderr
from pipeline.storage.storage import Storage

PROGRAM = """
import os, signal, subprocess, sys, time
from pipeline import supervisor
from pipeline.interrupt import interruptible
from pipeline.supervisor import announce, supervised

supervisor.GRACE_S = 0.1

def main():
    announce({output!r}, "r1")
    left = subprocess.Popen(["sleep", "3600"], start_new_session=True)  # as Ray's own processes
    print(left.pid, flush=True)
    {act}
    return 0

sys.exit(supervised(main))
"""

WAIT = """
    try:
        with interruptible():
            print("listens", flush=True)
            while True:  # one long sleep could begin just after the signal
                time.sleep(0.1)
    except KeyboardInterrupt:
        return 130
"""


def start(output: Path, act: str) -> subprocess.Popen[str]:
    Manifest("r1", {}, {}).write(Storage(str(output)))
    program = PROGRAM.format(output=str(output), act=act.strip())
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def state(output: Path) -> tuple[str, str]:
    manifest = json.loads((output / "runs" / "r1.json").read_text())
    return manifest["state"], manifest["error"]


@pytest.mark.parametrize(
    ("act", "code", "says"),
    [
        ("os._exit(1)", 3, "the Ray cluster, or the part of it on this node"),  # as Ray does
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "the driver was killed by SIGKILL"),
    ],
)
def test_a_driver_that_is_ended_from_below_leaves_a_code_a_sentence_and_nothing_else(
    tmp_path: Path, act: str, code: int, says: str
) -> None:
    job = start(tmp_path, act)
    said, errors = job.communicate(timeout=300)
    assert job.returncode == code
    assert says in errors
    assert "the same command goes on" in errors
    assert state(tmp_path)[0] == "error"
    assert says in state(tmp_path)[1]
    assert not Path(f"/proc/{int(said)}").exists()


@pytest.mark.parametrize(
    ("act", "code", "says"),
    [("return 0", 0, ""), ("return 1", 1, ""), ("raise ValueError(7)", 1, "ValueError: 7\n")],
)
def test_a_driver_that_ends_by_itself_has_said_what_is_to_say(
    tmp_path: Path, act: str, code: int, says: str
) -> None:
    job = start(tmp_path, act)
    said, errors = job.communicate(timeout=300)
    assert job.returncode == code
    assert errors.endswith(says) if says else not errors
    assert state(tmp_path) == ("running", "")  # the driver's to change
    assert not Path(f"/proc/{int(said)}").exists()


def check_stopped(output: Path, stop: Callable[[subprocess.Popen[str]], None]) -> None:
    """Hold that a job whose driver waits ends as by Ctrl-C after `stop`."""
    job = start(output, WAIT)
    assert job.stdout is not None
    left = int(job.stdout.readline())
    assert job.stdout.readline() == "listens\n"
    stop(job)
    try:
        _, errors = job.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)  # it holds the pipes where the signal was lost
    assert (job.returncode, errors) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_driver(tmp_path: Path, number: signal.Signals) -> None:
    check_stopped(tmp_path, lambda job: job.send_signal(number))


SLOW_TO_LISTEN = """
supervisor.GRACE_S = 0.1
before = supervisor.NativeStderr.start
def start(self):
    time.sleep(2)
    before(self)
supervisor.NativeStderr.start = start
"""


@pytest.mark.slow
def test_a_signal_that_comes_before_the_supervisor_listens_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = PROGRAM.replace("supervisor.GRACE_S = 0.1", SLOW_TO_LISTEN.strip())
    monkeypatch.setitem(globals(), "PROGRAM", slow)
    check_stopped(tmp_path, lambda job: job.send_signal(signal.SIGINT))


TO_ANOTHER_THREAD = """
supervisor.GRACE_S = 0.1
before = supervisor.NativeStderr.start
def start(self):
    import threading
    def wait_and_take():
        while not os.path.exists(os.path.join({output!r}, "go")):
            time.sleep(0.05)
        time.sleep(0.2)  # the main thread waits for the driver by now
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    threading.Thread(target=wait_and_take, daemon=True).start()
    before(self)
supervisor.NativeStderr.start = start
"""


def test_a_signal_that_does_not_interrupt_the_supervisor_s_wait_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = PROGRAM.replace("supervisor.GRACE_S = 0.1", TO_ANOTHER_THREAD.strip())
    monkeypatch.setitem(globals(), "PROGRAM", taken)
    check_stopped(tmp_path, lambda _: (tmp_path / "go").touch())


def test_what_is_left_is_killed_however_late_the_supervisor_comes_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = PROGRAM.replace("GRACE_S = 0.1", "GRACE_S = supervisor.KILLED_S = -1.0")
    monkeypatch.setitem(globals(), "PROGRAM", late)
    job = start(tmp_path, "return 0")
    assert job.wait(300) == 0
    assert job.stdout is not None
    left = int(job.stdout.readline())
    until = time.monotonic() + 60
    try:
        while Path(f"/proc/{left}/exe").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)


def test_the_driver_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    job = start(tmp_path, "print(os.getpid(), flush=True); time.sleep(3600)")
    assert job.stdout is not None
    left, driver = (int(job.stdout.readline()) for _ in range(2))
    job.kill()
    job.wait()
    until = time.monotonic() + 300
    while Path(f"/proc/{driver}/exe").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    subprocess.run(["kill", str(left)], check=False)
    job.communicate()


RAY_LINE = (
    "[2026-11-28 05:30:51,477 E PID PID] core_worker.cc:2465: Actor with class name: "
    "'MapWorker(MapBatches(GroupActor))' and ID: '9eed' has constructor arguments in the object "
    "store and max_restarts > 0. If the arguments in the object store go out of scope or are lost, "
    "the actor restart will fail."
)
NATIVE = f"""
    line = {RAY_LINE!r}.replace("PID", str(os.getpid()))
    other = line.replace("core_worker.cc:2465: Actor", "rpc_client.h:1: Failed to connect")
    text = "\\n".join(["first", line, other, line, "bar 10 %\\r", "[part"])
    for at in range(0, len(text), 7):
        os.write(2, text[at : at + 7].encode())
    print("by Python", file=sys.stderr)
    END
"""


@pytest.mark.parametrize(("end", "code"), [("return 0", 0), ("os._exit(1)", 3)])
def test_harmless_alarms_of_ray_are_counted_and_all_else_is_shown(
    tmp_path: Path, end: str, code: int
) -> None:
    job = start(tmp_path, NATIVE.replace("END", end))
    said, errors = job.communicate(timeout=300)
    assert job.returncode == code
    assert said
    assert "constructor arguments in the object store" in errors  # of the other message
    assert errors.count("core_worker.cc") == 0
    assert errors.count("rpc_client.h:1: Failed to connect with class name") == 1
    assert "bar 10 %" in errors
    assert "[part" in errors
    assert "by Python\n" in errors
    (told,) = [line for line in errors.splitlines() if "not shown: " in line]
    assert "2 harmless lines of Ray (a restart of an actor may fail)" in told
    assert "python-core-driver-*_" in told


def test_what_is_no_line_of_ray_s_is_passed_on_before_its_end() -> None:
    read, write = os.pipe()
    shown, to = os.pipe()
    relay = NativeStderr(read, to)
    relay.start()
    os.write(write, b"downloading 10 %")
    assert os.read(shown, 100) == b"downloading 10 %"
    os.close(write)
    relay.finish()


def test_python_s_stderr_stays_a_terminal(tmp_path: Path) -> None:
    mine, theirs = pty.openpty()
    program = PROGRAM.format(output=str(tmp_path), act="return 7 if sys.stderr.isatty() else 8")
    job = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=theirs, check=False
    )
    assert job.returncode == 7
    for each in (mine, theirs):
        os.close(each)
