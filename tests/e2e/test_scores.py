"""Clips are scored and judged while they are made, and later scored again and captioned."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import ray
from rich.console import Console

from jobs.caption import main as caption
from jobs.score import main as score
from pipeline.captioning.stored_captions import read_captions
from pipeline.config.run_config import RunConfig
from pipeline.run import run
from pipeline.scoring.score_prefix import clip_rows
from pipeline.scoring.scorer import Frames, ScoredClip
from pipeline.scoring.stored_scores import read_stored
from pipeline.storage.storage import Storage
from tests.e2e.engines import obedient
from tests.e2e.outputs import rows_of, write_prompts

pytestmark = pytest.mark.slow


class FirstPixel:
    """Scores a clip by its first pixel, and fails at one caption."""

    name, version, scores = "first-pixel", "1", ("first_pixel",)

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        if any("two" in clip.caption for clip in clips):
            raise RuntimeError("cannot score this")
        return [{"first_pixel": float(clip.frames[0, 0, 0, 0])} for clip in clips]


def test_a_run_scores_its_clips_and_a_later_job_scores_them_more(
    local_ray: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_prompts(tmp_path / "p.txt", ("one", "two", "three"))
    output, text = tmp_path / "out", io.StringIO()
    mine = f"{__name__}:{FirstPixel.__name__}"
    config = RunConfig(
        prompts=prompts,
        output=str(output),
        replicas=1,
        scorers=["basic", mine],
        keep="black <= 1 and first_pixel >= 0",
    )
    result = run(config, factory=obedient(), console=Console(file=text, width=200))
    assert (result.totals.good, result.totals.not_good) == (2, 0)
    assert "good         2 of 2 clips (100%), 1 not judged" in text.getvalue()
    rows = {row["caption"]: row for row in rows_of(output)}
    assert [rows[name]["good"] for name in ("one", "two", "three")] == [True, None, True]
    assert rows["two"]["scores_missing"] == "first-pixel: RuntimeError: cannot score this"
    names = {each["name"] for each in rows["two"]["scores"]}
    assert {"black", "motion", "sharpness", "first_pixel"} <= names

    again = f"{mine}Again"
    assert score(["--output", str(output), "--scorers", again, "--keep", "again > 0.5"]) == 0
    assert "3 of 3 clips are good" in capsys.readouterr().out
    stored = read_stored(Storage(str(output)))
    (table,) = clip_rows(Storage(str(output)), stored)
    for row in table.to_pylist():
        own = {each["name"]: each["value"] for each in rows[row["caption"]]["scores"]}
        now = {each["name"]: each["value"] for each in row["scores"]}
        assert now == own | {"again": 1.0}
        assert "again@1" in row["scorers"]

    captioner = f"{__name__}:{SaysTheSize.__name__}"
    assert caption(["--output", str(output), "--captioner", captioner]) == 0
    said = capsys.readouterr().out
    assert "3 clips: 2 captioned now by size@1, 0 before" in said
    assert "no caption for 1 clip: RuntimeError: cannot say this" in said
    assert caption(["--output", str(output), "--captioner", captioner]) == 0
    assert "3 clips: 0 captioned now by size@1, 2 before" in capsys.readouterr().out
    described = read_captions(Storage(str(output))).over(table).to_pylist()
    said = {row["caption"]: row["recaption"].partition(" ")[2] for row in described}
    assert said == {"one": "frames of one", "two": "", "three": "frames of three"}


class SaysTheSize:
    """Counts frames, and fails at one caption."""

    name, version = "size", "1"

    def caption(self, frames: Frames, fps: float, prompt: str) -> str:
        if prompt == "two":
            raise RuntimeError("cannot say this")
        return f"{len(frames)} frames of {prompt}"


class FirstPixelAgain:
    """Gives every clip 1."""

    name, version, scores = "again", "1", ("again",)

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        return [{"again": 1.0} for _ in clips]


class Torn:
    """Cannot be loaded by an actor."""

    name, version, scores = "torn", "1", ("torn",)

    def __init__(self) -> None:
        if ray.get_runtime_context().get_actor_id():
            raise OSError("the weights are torn")

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        raise NotImplementedError


@pytest.mark.variant
def test_scorers_that_no_node_can_load_end_the_job_in_one_line(
    local_ray: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_prompts(tmp_path / "p.txt", ("one",))
    output = tmp_path / "out"
    config = RunConfig(prompts=prompts, output=str(output), replicas=1, scorers=["none"])
    run(config, factory=obedient(), console=Console(file=io.StringIO()))
    assert score(["--output", str(output), "--scorers", f"{__name__}:{Torn.__name__}"]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error")]
    assert line == f"error: --scorers {__name__}:Torn: OSError: the weights are torn"
