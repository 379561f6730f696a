"""The console command, and what an installation without a checkout holds."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from pipeline.commands import command_line
from pipeline.commands.command_line import COMMANDS, Command

ROOT = Path(__file__).parents[3]
NOT_INSTALLED = {"README.md"}
"""Files beside the modules that no program reads."""


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["/usr/bin/sencache-pipeline", *arguments])
    monkeypatch.setattr(Command, "run", Command.main)  # pytest keeps its own output and signals
    return command_line.main()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "name a command"), (("make",), "make is no"), (("genrate",), "did you mean generate?")],
)
def test_what_is_no_command_is_told_which_there_are(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    assert call(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert ", ".join(COMMANDS) in line


def test_help_lists_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "help") == call(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert all(f"  {name:10} {command.help}" in shown for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "benchmark"])
def test_a_command_calls_itself_what_the_user_called_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, name, "--help")
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: sencache-pipeline {name} [")
    assert f"jobs/{name}.py" not in shown


def test_without_the_extra_a_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {"pydantic_settings", "yaml", "rich", "av", "fsspec"}
    folder = ModuleSpec("ray", None, is_package=True)  # as the temporary files of Ray are one
    found = {name: ModuleSpec(name, None, origin=f"{name}.py") for name in there} | {"ray": folder}
    monkeypatch.setattr("importlib.util.find_spec", found.get)
    assert call(monkeypatch, "report", "--help") == 2
    assert capsys.readouterr().err == (
        "error: ray, pyarrow, duckdb are not installed: pip install 'sencache-pipeline[pipeline]'\n"
    )


INSTALLED = """
import sys
# The checkout may be installed here too, and would give what the wheel lacks.
sys.meta_path[:] = [each for each in sys.meta_path if "__editable__" not in str(each.__module__)]
import pipeline, sencache
assert pipeline.__file__.startswith(sys.argv[1]), pipeline.__file__
assert sencache.__file__.startswith(sys.argv[1]), sencache.__file__
from pipeline.commands.command_line import COMMANDS
prompts, output = sys.argv[2:]
flags = ["--prompts", prompts, "--output", output, "--model", "demo", "--dry-run"]
assert COMMANDS["generate"].main(flags) == 0
assert COMMANDS["generate"].main([*flags, "--recipe", "distilled-4step"]) == 0
assert COMMANDS["report"].main(["--estimate", "wan2.1-t2v-1.3b:480p"]) == 0
assert COMMANDS["benchmark"].main(["cache"]) == 2
"""


@pytest.mark.slow
def test_an_installed_wheel_holds_all_that_commands_read(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    without = shutil.ignore_patterns("benchmarks", "__pycache__", ".*")
    for name in ("sencache", "pipeline", "jobs"):
        shutil.copytree(ROOT / name, source / name, ignore=without)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    files = {
        path.relative_to(source)
        for name in ("sencache", "pipeline", "jobs")
        for path in (source / name).rglob("*")
        if path.is_file() and path.name not in NOT_INSTALLED
    }
    assert {str(path) for path in files if not (site / path).is_file()} == set()
    entries = configparser.ConfigParser()
    (text,) = site.glob("*.dist-info/entry_points.txt")
    entries.read(text)
    assert entries["console_scripts"]["sencache-pipeline"] == f"{command_line.__name__}:main"

    (tmp_path / "p.txt").write_text("a red ball\n")
    arguments = [str(site), str(tmp_path / "p.txt"), str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "not part of the installed package" in done.stderr
