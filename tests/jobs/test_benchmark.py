"""The benchmark job: its commands, its errors and what it writes."""

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs import benchmark
from pipeline.errors import UserError


@pytest.mark.slow
def test_help_lists_the_commands_and_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from jobs.benchmark import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    print('torch' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "False"
    words = [line.split()[0] for line in shown.stdout.splitlines() if line.startswith("    ")]
    assert set(benchmark.COMMANDS) <= set(words)


@pytest.mark.parametrize("name", benchmark.COMMANDS)
def test_every_command_has_help_and_defaults(name: str) -> None:
    module = importlib.import_module(benchmark.COMMANDS[name])
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    parser.parse_args([])
    assert module.HELP
    assert not parser.parse_args([]).__dict__.keys() & {"json", "measure"}


def _stand_in(monkeypatch: pytest.MonkeyPatch, outcome: object) -> None:
    def main(options: object, console: object) -> object:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    module = SimpleNamespace(HELP="stands in", add_arguments=lambda parser: None, main=main)
    monkeypatch.setitem(benchmark.COMMANDS, "stand-in", "stand_in_module")
    monkeypatch.setitem(sys.modules, "stand_in_module", module)


def test_numbers_are_written_with_their_conditions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _stand_in(monkeypatch, [{"arm": "a", "wall_s": 1.5}])
    assert benchmark.main(["stand-in", "--json", str(tmp_path / "out.json")]) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["result"] == [{"arm": "a", "wall_s": 1.5}]
    assert set(written["conditions"]) == {"command", "cpu", "gpu", "threads", "versions", "date"}
    assert written["conditions"]["threads"] >= 1


def test_a_users_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _stand_in(monkeypatch, UserError("unknown model 'x'"))
    assert benchmark.main(["stand-in"]) == 2
    assert capsys.readouterr().err == "error: unknown model 'x'\n"


def test_bad_input_of_the_shipped_commands_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (["cache", "--model", "dem"], ["pipeline", "--samples", "1"]):
        assert benchmark.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1


def test_without_the_benchmarks_one_line_says_where_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert benchmark.main(["cache"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the benchmarks are not part of the installed package")
