"""CPU seconds of a family of processes."""

import subprocess
import sys
import time

from jobs.benchmarks.throughput.process_times import DRIVER, RAY, ProcessTimes

BURN = (
    "import time\nwhile time.process_time() < {}: pass\nprint('done', flush=True)\ntime.sleep(600)"
)


def test_children_are_counted_apart_from_this_process_and_within_the_window_only() -> None:
    began = time.time()
    with ProcessTimes(every_s=0.02) as times:
        child = subprocess.Popen([sys.executable, "-c", BURN.format(0.5)], stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None
            child.stdout.readline()
            while times.between(began, time.time()).get(RAY, 0) < 0.4:
                time.sleep(0.02)  # until a sample shows it
        finally:
            child.kill()
            child.communicate()
        ended = time.time()
    spent = times.between(began, ended)
    assert 0.4 <= spent[RAY] <= 0.7
    assert spent[DRIVER] >= 0.0
    assert times.between(ended + 1, ended + 2) == {}
