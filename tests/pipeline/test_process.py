import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.dataset.schema import SCHEMA
from pipeline.process import ALLOCATOR, ALLOCATOR_ENV, Worker, briefly, set_allocator

OLD_ENV = "PYTORCH_CUDA_ALLOC_CONF"


def test_a_worker_says_who_it_is_and_how_long_it_took() -> None:
    began = time.monotonic() - 5
    labels = {"market": "spot", "ray.io/node-id": "abc", "gpu": "h100"}
    one, two = Worker.loaded(began, labels), Worker.loaded(began)
    assert (one.labels, two.labels) == ("gpu=h100,market=spot", "")
    assert one.id != two.id
    row = one.to_row()
    assert 5 <= row["load_s"] <= row["up_s"]
    assert list(row) == SCHEMA.field("worker").type.names


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {ALLOCATOR_ENV: ALLOCATOR}),
        ({ALLOCATOR_ENV: "backend:cudaMallocAsync"}, {ALLOCATOR_ENV: "backend:cudaMallocAsync"}),
        ({OLD_ENV: "max_split_size_mb:64"}, {OLD_ENV: "max_split_size_mb:64"}),
    ],
)
def test_the_allocator_grows_its_segments_unless_the_user_has_said(
    given: dict[str, str], kept: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (ALLOCATOR_ENV, OLD_ENV):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    set_allocator()
    found = {name: os.environ[name] for name in (ALLOCATOR_ENV, OLD_ENV) if name in os.environ}
    os.environ.pop(ALLOCATOR_ENV, None)  # or it would stay for the tests that follow
    assert found == kept


END = """
import ctypes, threading, time
from pipeline import process
from pipeline.process import end_after
process.GRACE_S = 0.5

def raises():
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

def hangs():
    time.sleep(3600)

def hangs_with_the_lock():
    ctypes.PyDLL(None).sleep(3600)

threading.Thread(target=hangs).start()  # as an engine call that does not return
end_after(70, lambda: print("begun", flush=True), {act}, lambda: print("then", flush=True),
          within_s={within_s})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "within_s", "code", "said"),
    [
        ("raises", 3600.0, 70, ["begun", "then"]),
        ("hangs", 0.2, 70, ["begun"]),
        ("hangs_with_the_lock", 0.2, 1, ["begun"]),
    ],
)
def test_nothing_keeps_a_process_from_its_end(
    act: str, within_s: float, code: int, said: list[str]
) -> None:
    program = END.format(act=act, within_s=within_s)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    assert (ended.returncode, ended.stdout.split()) == (code, said)


def test_an_act_is_not_awaited_for_longer_than_said() -> None:
    assert briefly(lambda: None, 300)
    assert not briefly(lambda: time.sleep(30), 0.05)
    assert briefly(lambda: 1 / 0, 300)


_AT_THE_END = """
import sys, time
from pipeline.process import briefly, end_process

class Late:
    def __del__(self):
        assert sys.is_finalizing()
        if not briefly(lambda: {act}, {within}):
            end_process(9)
        print("ended")
        sys.stdout.flush()

late = Late()
late.itself = late
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "within", "said"),
    [
        ("print('closed')", 60, "closed\nended\n"),
        ("1 / 0", 60, "ended\n"),
        ("time.sleep(600)", 0.5, ""),
    ],
)
def test_an_act_at_the_very_end_of_a_process_cannot_hold_it(
    act: str, within: float, said: str
) -> None:
    code = _AT_THE_END.format(act=act, within=within)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.stdout == said, ended.stderr


HANGS = """
import atexit, ctypes
from pipeline.process import end_for_certain

libc = ctypes.CDLL(None)
libc.on_exit(ctypes.cast(libc.pause, ctypes.c_void_p), None)  # when no code of Python runs any more
end_for_certain({within_s})
atexit.register(print, "leaves", flush=True)
"""


@pytest.mark.slow
def test_the_kernel_ends_a_process_that_hangs_on_its_way_out() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGS.format(within_s=0.5)], capture_output=True, text=True
    )
    assert (ended.stdout, ended.returncode) == ("leaves\n", -signal.SIGALRM), ended.stderr


def test_a_process_that_leaves_in_time_is_not_ended() -> None:
    code = "from pipeline.process import end_for_certain; end_for_certain(60)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
