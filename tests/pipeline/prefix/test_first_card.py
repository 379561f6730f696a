"""A prefix has a card from the start, so readers never take its folders for something else."""

from __future__ import annotations

import io
from pathlib import Path

import datasets
import pytest
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.prefix.first_card import CARD_KEY, MARK, write_first_card
from pipeline.report.pricing.prices import Prices
from pipeline.report.write import write_report
from pipeline.run import run
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import row, write


def rejected_alone(folder: Path) -> None:
    """A run without a report whose only row is rejected, so that it needs no cluster."""
    prompts = folder / "p.jsonl"
    prompts.write_text('{"prompt": ""}\n')
    settings = {"prompts": str(prompts), "output": str(folder / "out"), "report": False}
    config = RunConfig.model_validate(settings | {"cache": {"policy": "none"}})
    run(config, console=Console(file=io.StringIO()))


@pytest.mark.slow
def test_readers_are_told_what_is_missing_until_there_is_an_index(tmp_path: Path) -> None:
    storage = write(tmp_path / "p", [row(0), row(1), row(1, control=True)])
    for name in ("07", "1c"):
        storage.put_bytes(f"media/{name}/{name}.mp4", b"an mp4")
    write_first_card(storage)
    with pytest.raises(FileNotFoundError, match=r"Unable to find .*/p/metadata\.parquet"):
        datasets.load_dataset(storage.uri, cache_dir=str(tmp_path / "cache"))
    write_report(storage, Prices())
    found = datasets.load_dataset(storage.uri, split="train", cache_dir=str(tmp_path / "cache"))
    assert found["caption"] == ["clip 0", "clip 1"]  # without the control


def test_a_card_that_is_there_stays_until_the_report(storage: Storage) -> None:
    storage.put_bytes(CARD_KEY, b"mine\n")
    write_first_card(storage)
    assert storage.read_bytes(CARD_KEY) == b"mine\n"


def test_a_run_without_a_report_leaves_a_card(tmp_path: Path) -> None:
    rejected_alone(tmp_path)
    card = tmp_path / "out" / CARD_KEY
    assert MARK in card.read_text()
    assert "metadata.parquet" in card.read_text()
    card.unlink()  # as in a prefix of an earlier version
    rejected_alone(tmp_path)
    assert MARK in card.read_text()
