"""The help of every job fits two screens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from jobs import benchmark, calibrate, export, generate, report

JOBS: dict[str, Callable[[Sequence[str]], int]] = {
    "benchmark": benchmark.main,
    "calibrate": calibrate.main,
    "export": export.main,
    "generate": generate.main,
    "report": report.main,
}


@pytest.mark.parametrize("job", JOBS)
def test_help_is_short(
    job: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        JOBS[job](["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert 5 <= len(lines) <= 100
    assert max(map(len, lines)) <= 100
    assert len({word for line in lines for word in re.findall(r"^  (--[\w.-]+)", line)}) <= 45
