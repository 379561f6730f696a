"""Clips that are not good are drawn again on a real cluster, and a resumed run decides the same."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.requests.sample_request import digest
from pipeline.run import RunResult, run
from pipeline.scoring.scorer import ScoredClip
from tests.e2e.engines import obedient
from tests.e2e.outputs import rows_of, write_prompts

pytestmark = pytest.mark.slow


class SeedLuck:
    """Draws a number from 0 to 1 from a clip's seed."""

    name, version, scores = "seed-luck", "1", ("luck",)

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        return [{"luck": luck(clip.row["seed_u64"])} for clip in clips]


def luck(seed: int) -> float:
    return int.from_bytes(digest(["luck", seed])[:4], "big") / 2**32


PROMPTS = [f"prompt {number}" for number in range(8)]


def generate(folder: Path, output: str, **settings: Any) -> tuple[RunResult, str]:
    text = io.StringIO()
    config = RunConfig(
        prompts=write_prompts(folder / "p.txt", PROMPTS),
        output=str(folder / output),
        replicas=1,
        scorers=[f"{__name__}:{SeedLuck.__name__}"],
        keep="luck > 0.6",
        **settings,
    )
    result = run(config, factory=obedient(), console=Console(file=text, width=200))
    return result, text.getvalue()


def tries(output: Path) -> dict[str, list[tuple[int, bool]]]:
    """Number and verdict of each try, by prompt."""
    found: dict[str, list[tuple[int, bool]]] = {prompt: [] for prompt in PROMPTS}
    for row in sorted(rows_of(output), key=lambda row: row["candidate"]):
        assert row["good"] == (luck(row["seed_u64"]) > 0.6)
        found[row["caption"]].append((row["candidate"], row["good"]))
    return found


def test_redraws_stop_at_a_good_clip_and_a_later_run_goes_on_with_them(
    local_ray: None, tmp_path: Path
) -> None:
    result, text = generate(tmp_path, "whole", redraw=3, control_fraction=0.0)
    whole = tries(tmp_path / "whole")
    for made in whole.values():
        numbers, verdicts = zip(*made, strict=True)
        assert numbers == tuple(range(1, len(made) + 1))
        assert not any(verdicts[:-1])
        assert verdicts[-1] or len(made) == 4
    redraws = sum(len(made) - 1 for made in whole.values())
    assert redraws > 0
    assert result.totals.redraws == redraws
    assert f"{8 + redraws}/{8 + redraws} clips" in text
    assert f"by {redraws} redraw" in text

    # The same in three runs: no redraws, one redraw, three.
    for redraw in (0, 1, 3):
        _, text = generate(tmp_path, "parts", redraw=redraw)
    assert tries(tmp_path / "parts") == whole
    ids = [{row["sample_id"] for row in rows_of(tmp_path / name)} for name in ("whole", "parts")]
    assert ids[0] == ids[1]
    result, text = generate(tmp_path, "parts", redraw=3)
    assert result.totals.made == 0
    assert "nothing to make" in text
