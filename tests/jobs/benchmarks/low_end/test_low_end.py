"""The lower end: the command measures, fits and goes on where it was; the page shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.benchmark import main
from jobs.benchmarks.low_end.document import BEGIN, DOCUMENT, END, KEPT, TRIED, section
from jobs.benchmarks.low_end.ways import WAYS
from pipeline.models.samplers import EULER
from sencache import SensitivityProfile


@pytest.mark.slow
@pytest.mark.variant
def test_fitted_plans_are_nearer_than_plans_and_those_than_fewer_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clips at 5 of 50; the second start of the command measures nothing again."""
    monkeypatch.chdir(tmp_path)
    arguments = ["low-end", "--clips", "2", "--fit-clips", "2", "--nfe", "5"]
    arguments += ["--samplers", f"{EULER}/3.0", "--ways"]
    arguments += ["unrepaired", "bounded", "fewer", "fitted"]
    arguments += ["--cache-dir", "cache", "--partial", "part.jsonl", "--json", "out.json"]
    assert main(arguments) == 0
    found = json.loads(Path("out.json").read_text())["result"]["samplers"][f"{EULER}/3.0"]
    cells = {cell["way"]: cell for cell in found["cells"]}
    db = {way: cell["psnr"]["mean"] for way, cell in cells.items()}
    assert db["unrepaired"] > max(db["bounded"] + 3, db["fewer"])
    assert db["fitted"] > db["unrepaired"]
    assert all(len(cell["computed"]) == 5 for cell in cells.values())
    assert cells["bounded"]["computed"][-1] == 49
    assert cells["unrepaired"]["computed"][-1] < 49
    (kept,) = Path("cache").glob("fitted-*.json")
    (plan,) = SensitivityProfile.load(kept).plans
    assert list(plan.computed) == cells["fitted"]["computed"]
    before = Path("part.jsonl").read_text()
    kept.unlink()
    assert main(arguments) == 0
    assert Path("part.jsonl").read_text() == before
    assert json.loads(Path("out.json").read_text())["result"]["samplers"] == {f"{EULER}/3.0": found}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--ways", "best"], f"--ways best: the ways are {', '.join(WAYS)}"),
        (["--nfe", "51"], "--nfe 51: a number from 2 to 50 is needed"),
    ],
)
def test_wrong_options_are_said(
    wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["low-end", *wrong]) == 2
    assert message in capsys.readouterr().err


def test_the_document_shows_what_is_stored() -> None:
    written = json.loads(KEPT.read_text())
    shown = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown == f"\n{section([*written, json.loads(TRIED.read_text())])}\n"
    assert all("/work" not in each["conditions"]["command"] for each in written)


def test_what_the_page_says_of_the_goal_is_so() -> None:
    """Eight evaluations, against ten of the bounded plan; no way is better than fitted sums."""
    samplers = json.loads(KEPT.read_text())[0]["result"]["samplers"]
    for found in samplers.values():
        cells = {(cell["way"], cell["nfe"]): cell["psnr"]["mean"] for cell in found["cells"]}
        assert 3 < cells["bounded", 10] - cells["fitted", 8] < 5
        for nfe in (5, 6, 8, 10):
            at = {way: db for (way, where), db in cells.items() if where == nfe}
            assert max(at, key=lambda way: at[way]) == "fitted"
