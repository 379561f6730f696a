"""The command line that scores a finished prefix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.score import main
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import rejected_row, to_table
from pipeline.scoring.registry import load_scorers
from pipeline.storage.storage import Storage

BASIC = load_scorers(["basic"])


def prefix(folder: Path) -> Path:
    """Clips that have every basic score already: motion 0.1, 0.2, 0.3, and a control with 0.4."""
    writer = PartWriter(Storage(str(folder)), "r", part_rows=9, part_seconds=1e9)
    for number in range(4):
        row = rejected_row(f"{number:020x}", "", "", "demo", "r", "") | {"status": "ok"}
        row |= {"control_of": f"{2:020x}" if number == 3 else ""}
        row |= {"scorers": [f"{each.name}@{each.version}" for each in BASIC]}
        names = [name for each in BASIC for name in each.scores]
        motion = (number + 1) / 10
        row |= {"scores": [{"name": n, "value": motion if n == "motion" else 0.0} for n in names]}
        writer.add(to_table([row]))
    writer.flush()
    return folder


@pytest.mark.slow
def test_another_condition_reads_no_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--output", str(prefix(tmp_path))]
    assert main([*flags, "--keep", "motion > 0.15"]) == 0
    said = capsys.readouterr().out
    assert "0 scored now, 4 before" in said
    assert f"To make the page anew with this: python jobs/report.py --output {tmp_path}" in said
    assert json.loads((tmp_path / "scores/keep.json").read_text())["keep"] == "motion > 0.15"
    assert main([*flags, "--keep", "motion > 0.25"]) == 0
    assert "1 of 3 clips is good: motion > 0.25" in capsys.readouterr().out
    assert main(flags) == 0  # the last condition stays
    said = capsys.readouterr().out
    assert "1 of 3 clips is good: motion > 0.25" in said
    assert "jobs/report.py" not in said  # nothing has changed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--keep", "moton > 1"], "moton"),
        (["--keep", "sum(motion) > 1"], "looks at several rows"),
        (["--scorers", "basik"], "did you mean basic"),
    ],
)
def test_mistakes_are_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main(["--output", str(prefix(tmp_path / "out")), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out/scores/keep.json").exists()


def test_a_place_without_a_dataset_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "misspelt")]) == 2
    assert "holds no data/part-" in capsys.readouterr().err
    assert not (tmp_path / "misspelt").exists()
