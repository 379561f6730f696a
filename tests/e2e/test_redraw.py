"""On a real cluster: redraws, the best of drafts, and clips of rewritten prompts."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs import rewrite
from pipeline.config.run_config import RunConfig
from pipeline.dataset import mp4
from pipeline.errors import UserError
from pipeline.monitoring.result import RunResult
from pipeline.requests.sample_request import digest
from pipeline.run import run
from pipeline.scoring.scorer import ScoredClip
from tests.docs.documents import blocks
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
        prompts=settings.pop("prompts", write_prompts(folder / "p.txt", PROMPTS)),
        output=str(folder / output),
        replicas=1,
        scorers=[f"{__name__}:{SeedLuck.__name__}"],
        keep="luck > 0.6",
        **settings,
    )
    result = run(config, factory=obedient(), console=Console(file=text, width=200))
    return result, text.getvalue()


def report_of(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "report/report.json").read_text())
    return found


def tries(output: Path) -> dict[str, list[tuple[int, bool]]]:
    """Number and verdict of each try, by prompt."""
    found: dict[str, list[tuple[int, bool]]] = {prompt: [] for prompt in PROMPTS}
    for row in sorted(rows_of(output), key=lambda row: row["candidate"]):
        assert row["good"] == (luck(row["seed_u64"]) > 0.6)
        found[row["caption"]].append((row["candidate"], row["good"]))
    return found


def test_redraws_stop_at_a_good_clip_and_a_later_run_goes_on_with_them(
    local_ray: str, tmp_path: Path
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
    assert "of this run alone" not in text
    assert "whole dataset" not in text
    told = report_of(tmp_path / "whole")["redraws"]
    assert (told["samples"], told["with_good"]) == (8, sum(m[-1][1] for m in whole.values()))
    assert [(each["number"], each["clips"], each["won"]) for each in told["tries"]] == [
        (
            number,
            sum(len(made) >= number for made in whole.values()),
            sum((number, True) in made for made in whole.values()),
        )
        for number in range(1, max(map(len, whole.values())) + 1)
    ]

    # The same in two runs: no redraws, then three.
    for redraw in (0, 3):
        _, text = generate(tmp_path, "parts", redraw=redraw)
    assert tries(tmp_path / "parts") == whole
    good = sum(made[-1][1] for made in whole.values())
    assert "; of this run alone" in text
    assert f"good clips of the whole dataset: {good} of {8 + redraws} clips" in text
    ids = [{row["sample_id"] for row in rows_of(tmp_path / name)} for name in ("whole", "parts")]
    assert ids[0] == ids[1]
    result, text = generate(tmp_path, "parts", redraw=3)
    assert result.totals.made == 0
    assert "nothing to make" in text


def test_the_best_of_several_drafts_is_finished_and_the_others_are_no_clips_of_the_dataset(
    local_ray: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"best_of": 4, "draft_budget": 0.1, "select_by": "luck"}
    settings |= {"batch_rows": 4, "cache": {"budget": 0.34}, "keep_drafts": True}
    result, text = generate(tmp_path, "out", **settings)
    output = tmp_path / "out"
    rows = rows_of(output)
    assert len(rows) == len(list(output.glob("media/*/*.mp4"))) == len(PROMPTS)
    for row in rows:
        drafts = row["drafts"]
        assert [each["value"] for each in drafts] == [luck(each["seed_u64"]) for each in drafts]
        best = max(drafts, key=lambda each: each["value"])
        assert row["seed_u64"] == best["seed_u64"]
        assert row["candidate"] == drafts.index(best) + 1
        assert all(each["gpu_s"] > 0 for each in drafts)
        assert row["status"] == "ok"
        for each in drafts:
            place = output / "drafts" / each["sample_id"][:2] / each["sample_id"]
            kept = mp4.read_row(place.with_suffix(".mp4").read_bytes())
            assert kept["seed_u64"] == each["seed_u64"]
            assert json.loads(place.with_suffix(".json").read_text())["video"] == kept["video"]
    assert result.totals.drafts == 4 * len(PROMPTS)
    assert result.totals.draft_gpu_s > 0
    assert f"drafts       {4 * len(PROMPTS)}, " in text
    assert f"{len(PROMPTS)}/{len(PROMPTS)} clips" in text
    again, text = generate(tmp_path, "out", **settings)
    assert again.totals.made == 0
    assert "nothing to make" in text

    # A run that lost its rows takes the clips over, with what they say of their drafts.
    for part in (output / "data").iterdir():
        part.unlink()
    (manifest,) = (output / "runs").glob("*.json")
    state = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(state | {"state": "running", "ended_at": ""}))
    generate(tmp_path, "out", **settings)
    recovered = {row["sample_id"]: row["drafts"] for row in rows_of(output)}
    assert recovered == {row["sample_id"]: row["drafts"] for row in rows}

    # The page about drafts says how to finish the others, which shows what the choice misses.
    drafts = report_of(output)["drafts"]
    assert (drafts["samples"], drafts["looked_at"], drafts["regret"]) == (8, 8, None)
    (finish,) = [text for text in blocks("docs/selection.md", "python") if "finish.jsonl" in text]
    others = str(tmp_path / "finish.jsonl")
    exec(finish.replace("out/clips", str(output)).replace("finish.jsonl", others))
    same = {name: settings[name] for name in ("cache", "batch_rows")}
    result, _ = generate(tmp_path, "out", prompts=others, **same)
    assert result.totals.made == 3 * len(PROMPTS)
    drafts = report_of(output)["drafts"]
    assert (drafts["samples"], drafts["regret"]["samples"]) == (8, 8)
    found = {name: drafts["regret"][name]["value"] for name in ("rank_correlation", "regret")}
    assert found == {"rank_correlation": 1.0, "regret": 0.0}  # luck is the seed's alone


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"select_by": ""}, "--best-of 4 needs --select-by"),
        ({"select_by": "luck", "redraw": 1}, "leave one of them out"),
        ({"best_of": 1, "keep_drafts": True}, "--keep-drafts stores drafts: give --best-of"),
        ({"best_of": 1, "draft_frames": 5}, "--draft-frames scores drafts: give --best-of"),
        ({"select_by": "lick"}, "did you mean luck. .scores are luck"),
        ({"select_by": "caption"}, "it should be a number"),
        ({"select_by": "luck", "cache": {"policy": "none"}}, "use --cache.policy planned"),
    ],
)
def test_drafts_that_cannot_be_chosen_are_refused_before_a_device_is_taken(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        generate(tmp_path, "out", **{"best_of": 4, **settings})


def at_night(prompts: Sequence[str]) -> list[str]:
    """Rewrites prompts, but for one."""
    if "prompt 3" in prompts:
        raise RuntimeError("not this one")
    return [f"{prompt}, at night" for prompt in prompts]


@pytest.mark.variant
def test_clips_of_rewritten_prompts_say_what_their_prompt_was(
    local_ray: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewriter, new = f"{__name__}:{at_night.__name__}", tmp_path / "new.jsonl"
    given = write_prompts(tmp_path / "p.txt", PROMPTS)
    flags = ["--prompts", given, "--to", str(new), "--rewrite", rewriter, "--batch-rows", "3"]
    assert rewrite.main(flags) == 0
    said = capsys.readouterr().out
    assert "7 prompts rewritten" in said
    assert "1 stay as they were (rewrite_error), e.g. RuntimeError: not this one" in said
    assert rewrite.main(flags) == 2
    assert "is there already" in capsys.readouterr().err

    config = RunConfig(prompts=str(new), output=str(tmp_path / "out"), replicas=1, scorers=[])
    run(config, factory=obedient(), console=Console(file=io.StringIO()))
    rows = {row["caption"]: json.loads(row["source"]) for row in rows_of(tmp_path / "out")}
    expected = {
        f"{prompt}, at night": {"prompt_before": prompt, "prompt_rewriter": rewriter}
        for prompt in PROMPTS
    }
    del expected["prompt 3, at night"]
    assert rows == {**expected, "prompt 3": {"rewrite_error": "RuntimeError: not this one"}}
