"""The command line of reports: what it writes, and one line for every mistake."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from jobs.report import main
from pipeline.prefix.first_card import MARK
from tests.pipeline.report.made import row, write


def prefix(folder: Path, state: str = "done") -> Path:
    storage = write(folder, [row(0), row(1, psnr=40.0, control=True), row(1, up=50.0)])
    manifest = {"run_id": "r1", "state": state, "config": {}, "input": {"pending": 3}}
    manifest["seen_at"] = datetime.datetime.now(datetime.UTC).isoformat()
    storage.put_bytes("runs/r1.json", json.dumps(manifest).encode())
    return folder


@pytest.mark.slow
def test_it_writes_page_numbers_card_and_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(prefix(tmp_path)), "--price", "3", "--more-clips", "7"]) == 0
    text = capsys.readouterr().out
    assert "2 ok" in text
    assert "7 more clips" in text
    assert main(["--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    value = json.loads((tmp_path / "report/report.json").read_text())
    jsonschema.validate(value, schema)
    assert value["totals"]["ok"] == 2
    assert (tmp_path / "report/index.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "metadata.parquet").exists()
    _, front, body = (tmp_path / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["task_categories"] == ["text-to-video"]
    assert card["size_categories"] == ["n<1K"]
    assert "| clips | 2," in body
    (tmp_path / "README.md").write_text("mine now\n")
    assert main(["--output", str(tmp_path)]) == 0
    assert (tmp_path / "README.md").read_text() == "mine now\n"
    assert "card not written: README.md has been edited" in capsys.readouterr().out
    assert MARK in body


def test_what_clips_would_cost_is_a_table_of_the_measured_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--output", str(tmp_path), "--price", "3.6", "--what-if", "0.7,0.4,1"]
    # 4 evaluations took 1 s and 10 took 2.2 s, so 7 would take 1.6; $3.6 an hour is $1 per 1,000 s.
    write(
        tmp_path,
        [
            row(0, up=8.0),
            row(0, control=True, up=12.0, wall=2.2),
            row(1, up=20.0),
            row(1, control=True, up=24.0, wall=2.2, psnr=50.0),
        ],
    )
    assert main(flags) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["0.40", "4", "1", "$1.00", "2.20x", "50.0"] in [line[:6] for line in lines]
    assert ["0.70", "7", "1.6", "$1.60", "1.38x", "–"] in [line[:6] for line in lines]
    assert ["1.00", "10", "2.2", "$2.20", "1.00x", "100.0"] in [line[:6] for line in lines]
    alone = tmp_path / "alone"
    write(alone, [row(1)])
    assert main([*flags[:1], str(alone), *flags[2:]]) == 0
    assert "--control-fraction" in capsys.readouterr().out


@pytest.mark.slow
def test_watching_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        prefix(tmp_path, "done")

    monkeypatch.setattr("time.sleep", sleep)
    assert main(["--output", str(prefix(tmp_path, "running")), "--watch", "5"]) == 0
    assert slept == [5.0]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "--output"),
        (["--output", "{here}/none"], "no output rows"),
        (["--output", "{here}", "--price", "cheap"], "--price cheap"),
        (["--output", "{here}", "--cloud", "moon"], "knows aws"),
        (["--output", "{here}", "--what-if", "0.5,2"], "shares of the steps"),
        (["--output", "{here}", "--estimate", "wan2.1-t2v-14b:480p"], "--estimate"),
        (["--estimate", "wan2.1-t2v-14b"], "should be MODEL:SIZE"),
        (["--estimate", "wan2.1-t2v-14b:480p", "--price", "2"], "--price goes with --output"),
        (["--estimate", "sora:480p"], "others have to be measured"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], problem: str
) -> None:
    assert main([flag.replace("{here}", str(tmp_path)) for flag in flags]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert problem in error


@pytest.mark.parametrize("watch", [False, True])
def test_an_interrupted_report_says_so_and_a_watched_one_ends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    watch: bool,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.commands.report._report", interrupt)
    flags = ["--output", str(tmp_path), *(["--watch", "1"] if watch else [])]
    assert main(flags) == (0 if watch else 130)
    assert ("the report of before stands" in capsys.readouterr().err) is not watch


def test_an_estimate_without_a_price_says_which_prices_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = [
        {"cloud": cloud, "product": "p", "gpu": "H100", "on_demand": 2.0, "spot": spot}
        | {"date": "2026-01-02", "source": "s"}
        for cloud, spot in (("aws", None), ("moon", 1.0))
    ]
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(table))
    flags = ["--estimate", "wan2.1-t2v-1.3b:480p", "--price-table", str(tmp_path / "prices.yaml")]
    assert main([*flags, "--cloud", "aws", "--market", "spot"]) == 0
    first, _, rest = capsys.readouterr().out.partition("\n")
    assert first == (
        "No spot price of aws for a GPU whose speed is known: the price table has on-demand prices "
        "of aws, moon; spot prices of moon (--cloud, --market, --price-table)"
    )
    assert "$ per GPU-hour" not in rest
    assert "| RTX 4090 |" in rest
    assert "--engine.vae-tiling or --engine.offload model gives room" in rest
