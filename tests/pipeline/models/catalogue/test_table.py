"""`--list-models`: every model, what it takes, and no number that nobody knows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jobs import generate
from pipeline.models.catalogue.table import NOT_KNOWN, cells
from pipeline.models.registry import MODELS


def test_every_model_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--list-models"]) == 0
    printed = capsys.readouterr().out
    for spec in MODELS.values():
        (line,) = [line for line in printed.splitlines() if line.split()[:1] == [spec.name]]
        assert all(cell in line for cell in cells(spec))
    assert "not known" in printed
    unpinned = [spec for spec in MODELS.values() if spec.published_as]
    assert {spec.hub_id for spec in unpinned} == {""}
    for spec in unpinned:
        assert f"* {spec.name}: --model-path {spec.published_as}\n" in printed


@pytest.mark.slow
def test_the_table_needs_no_torch() -> None:
    code = (
        "import sys; from jobs.generate import main; assert main(['--list-models']) == 0\n"
        "assert not {'torch', 'diffusers', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_number_that_nobody_knows_is_a_dash() -> None:
    assert cells(MODELS["ltx-video"])[6] == NOT_KNOWN
    assert cells(MODELS["wan2.2-t2v-a14b"])[5:8] == ("4, then 3", "69.2", "own")
    assert cells(MODELS["demo"])[7] == "shipped"
    assert cells(MODELS["hunyuanvideo"])[8] == "ulysses, vae"  # one branch: nothing for cfg
