"""Files that somebody else keeps in a place are never replaced."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import pipeline
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.prefix.first_card import CARD_KEY, write_first_card
from pipeline.prefix.foreign_files import NAMES, refuse_foreign
from pipeline.report.pricing.prices import Prices
from pipeline.report.write import ReportWriter, write_report
from pipeline.run import run
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import row, write

RUN = "runs/20260101T000000Z-000001.json"


def settings_of(folder: Path, **more: Any) -> dict[str, Any]:
    (folder / "p.jsonl").write_text('{"prompt": ""}\n')  # rejected, so no cluster is needed
    given = {"prompts": str(folder / "p.jsonl"), "output": str(folder / "out")}
    return {**given, "cache": {"policy": "none"}, **more}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_file_of_somebody_else_is_named_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    said = f"{tmp_path}/out holds {name}, which .*: choose an empty .* as --output, or move it away"
    for more in ({"dry_run": True}, {"report": False, "contact_sheet": False}, {}):
        config = RunConfig.model_validate(settings_of(tmp_path, **more))
        with pytest.raises(UserError, match=said):
            run(config, console=Console(file=io.StringIO()))
    del config
    settings = {key: value for key, value in settings_of(tmp_path).items() if key != "prompts"}
    with pytest.raises(UserError, match=said):
        pipeline.build_processor(settings)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


def test_several_files_are_named_together(storage: Storage) -> None:
    for name in (CARD_KEY, "metadata.parquet"):
        storage.put_bytes(name, b"mine")
    with pytest.raises(UserError, match=r"README\.md and metadata\.parquet, .* or move them away"):
        refuse_foreign(storage)


@pytest.mark.parametrize("sign", [RUN, "data/part-20260101T000000Z-000001-00000.parquet"])
def test_a_prefix_with_runs_or_rows_is_ours_whichever_version_made_it(
    storage: Storage, sign: str
) -> None:
    for name in NAMES:
        storage.put_bytes(name, b"of a version that marked nothing")
    storage.put_bytes("runs/notes.json", b"{}")  # no name of a run
    with pytest.raises(UserError):
        refuse_foreign(storage)
    storage.put_bytes(sign, b"{}")
    refuse_foreign(storage)


def test_a_card_with_our_mark_is_ours(storage: Storage) -> None:
    write_first_card(storage)
    refuse_foreign(storage)


def test_a_card_that_a_person_has_edited_is_kept_and_that_is_said(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0)])
    write_report(storage, Prices())
    edited = b"\xffmine"  # in whatever encoding
    storage.put_bytes(CARD_KEY, edited)
    console = Console(record=True, width=400)
    ReportWriter(storage, console, report=True, contact_sheet=False).write()
    said = console.export_text()
    assert storage.read_bytes(CARD_KEY) == edited
    assert "card not written: README.md has been edited or was not written by this pipeline" in said
    assert "no report" not in said
