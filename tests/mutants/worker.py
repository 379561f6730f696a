"""`python -m tests.mutants.worker MODULE RESULT JOBS`: runs the mutants of one module.

The module is imported with all of its mutants in it and a switch between them, and the tests are
collected once. Then each mutant has a fork of this process, which runs the tests up to the first
failure. Reads the tests, an empty line and the names of mutants from standard input.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.mutation.trampoline import set_mutant_under_test

OPTIONS = (
    *("-q", "-m", "not slow and not gpu", "-p", "no:cacheprovider", "--hypothesis-seed=0"),
    "--hypothesis-profile=all",
    "--timeout=60",  # for a test that waits for what a mutant never does
)
SLOWER = 10
"""A mutant whose tests take so many times the usual CPU time, and `MORE_S`, does not end."""
MORE_S = 20


class MutatedModule(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Imports one module with its mutants in it."""

    def __init__(self, path: Path) -> None:
        """Make the mutants of the module at a path from the root of the checkout."""
        self._path = path
        self._name = ".".join(path.with_suffix("").parts)
        self._code = mutate_file_contents(str(path), path.read_text()).code

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The mutated module in place of the one on disk; any other is none of ours."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path.absolute(), loader=self)

    def get_filename(self, fullname: str) -> str:
        """The file of the sources, beside which the module looks for its data."""
        return str(self._path.absolute())

    def get_data(self, path: str | os.PathLike[str]) -> bytes:
        """The sources with the mutants."""
        return self._code.encode()


class MutantLoop:
    """Runs the collected tests once per mutant, instead of once; a pytest plugin."""

    def __init__(self, mutants: Sequence[str], jobs: int) -> None:
        """Run mutants of these names, `jobs` of them at a time."""
        self._mutants, self._jobs = mutants, jobs
        self.survivors: list[str] = []
        self.alone_s: float | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests without a mutant, and then with each."""
        began = time.monotonic()
        _, status, usage = os.wait4(_fork(session, "", 3600), 0)
        if status or not session.items:
            return True
        self.alone_s = time.monotonic() - began
        limit_s = int(SLOWER * (usage.ru_utime + usage.ru_stime)) + MORE_S
        running: dict[int, str] = {}
        waiting = list(self._mutants)
        while waiting or running:
            while waiting and len(running) < self._jobs:
                name = waiting.pop()
                running[_fork(session, name, limit_s)] = name
            pid, status = os.wait()
            name = running.pop(pid)
            if status == 0:
                self.survivors.append(name)
        return True


def main() -> None:
    """Run the mutants, and write the names of those that no test noticed."""
    module, result, jobs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    tests, _, names = sys.stdin.read().partition("\n\n")
    sys.meta_path.insert(0, MutatedModule(module))
    set_mutant_under_test("")
    loop = MutantLoop(names.split("\n") if names else [], jobs)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    pytest.main([*OPTIONS, *tests.split("\n")], plugins=[loop])
    if loop.alone_s is None:
        sys.exit(f"{module}: its tests fail, or are none, without any mutant: {tests}")
    sys.stderr.write(f"{module}: {loop.alone_s:.1f} s for its tests alone\n")
    result.write_text("".join(f"{name}\n" for name in loop.survivors))


def _fork(session: pytest.Session, mutant: str, limit_s: int) -> int:
    """Run tests with one mutant in a fork; its exit status is 0 if no test noticed it."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 1))
        os.dup2(1, 2)
        set_mutant_under_test(mutant)
        for item, after in itertools.zip_longest(session.items, session.items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if session.testsfailed:
                break
        else:
            code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
