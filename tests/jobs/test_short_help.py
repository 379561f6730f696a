"""The help of every job fits two screens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from jobs import benchmark, calibrate, export, generate, report
from pipeline.config.cache_section import CacheConfig

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
    assert len({word for line in lines for word in re.findall(r"^  (--[\w.-]+)", line)}) <= 46


def test_help_says_what_a_run_without_cache_flags_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        generate.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert CacheConfig().policy == "planned"
    assert "a setting of paper selects it (default planned)" in text
    assert "(default paper)" not in text
    assert "(default 0.1, with --cache.policy paper)" in text


def test_help_of_the_calibration_says_where_its_clips_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        calibrate.main(["--help"])
    assert "OUTPUT.clips" in capsys.readouterr().out
