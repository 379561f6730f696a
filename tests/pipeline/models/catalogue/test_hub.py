"""Repositories of the Hub, from a cache as the Hub's client keeps it; there is no network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest

from pipeline.errors import UserError
from pipeline.models.registry import MODELS
from pipeline.models.resolve import resolve_model

COMMIT = "1234567890" * 4
WAN = "wan2.1-t2v-1.3b"


@pytest.fixture
def cache(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache with one repository, `someone/fine-tune`."""
    repo = tmp_path / "models--someone--fine-tune"
    shutil.copytree(tiny_model(WAN), repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.parametrize("given", ["someone/fine-tune", f"someone/fine-tune@{COMMIT}"])
def test_a_repository_resolves_to_its_commit(cache: Path, given: str) -> None:
    model = resolve_model("", given)
    assert (model.location, model.revision) == ("someone/fine-tune", COMMIT)
    assert (model.spec.hub_id, model.spec.name) == ("someone/fine-tune", "fine-tune")
    assert model.spec.pipeline.name == "WanPipeline"


def test_a_repository_that_cannot_be_had_says_so(cache: Path) -> None:
    with pytest.raises(UserError, match="neither a folder here nor a repository") as caught:
        resolve_model("", "someone/else")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("revision", ["", f"@{MODELS[WAN].revision}"])
def test_a_repository_of_the_registry_is_its_model(revision: str) -> None:
    model = resolve_model("", MODELS[WAN].hub_id + revision)
    assert model.spec == MODELS[WAN]
    assert model.revision == MODELS[WAN].revision
    assert "of the registry" in model.notes[0]
