"""The paper's studies: their arithmetic, and all of them in a tiny setting."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.benchmark import main
from jobs.benchmarks.ablation.lab import Study, other_settings
from jobs.benchmarks.ablation.runs import (
    Variant,
    VariantResult,
    floor,
    summaries,
)
from jobs.benchmarks.ablation.studies import TERMS, without_terms
from jobs.benchmarks.ablation.tables import study_table
from jobs.benchmarks.baselines import SenCachePaper
from pipeline.errors import UserError
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import SampleRequest
from sencache import SenCacheConfig, SensitivityProfile

TINY = (
    "ablation --device cpu --quick --clips 1 --steps 7 --tuning-clips 1 --profile-clips 1 "
    "--calibration-clips 1 2 --transfer-steps 4 --transfer-size 32 32"
)


def measured(arguments: str, folder: Path) -> Any:
    out = folder / "out.json"
    cache = ["--cache-dir", str(folder / "cache"), "--json", str(out)]
    assert main([*f"{TINY} {arguments}".split(), *cache]) == 0
    return json.loads(out.read_text())["result"]


@pytest.mark.parametrize(("n", "computed"), [(1, 30), (2, 24), (3, 20), (4, 18), (7, 15)])
def test_the_floor_of_the_paper_s_runs(n: int, computed: int) -> None:
    # 10 strict steps, then every (n + 1)th of 39, and the last: 10 + 39 // (n + 1) + 1.
    assert floor(SenCacheConfig(max_reuse=n), 50) == computed


def test_the_floor_without_forced_steps_keeps_the_first() -> None:
    config = SenCacheConfig(max_reuse=3, strict_fraction=0.0, final_computed=0)
    assert floor(config, 9) == 3  # CRRRCRRRC
    assert floor(config, 8) == 2


def test_a_rule_without_a_term_scores_by_the_other_alone(profile: SensitivityProfile) -> None:
    for name, without in TERMS.items():
        cut = without_terms(profile, without)
        for branch, points in cut.branches.items():
            for mine, own in zip(points, profile.branches[branch], strict=True):
                assert mine.a_x == (0 if name == "t term only" else own.a_x)
                assert mine.a_t == (0 if name == "x term only" else own.a_t)
                assert mine.tau == own.tau
        assert (cut.hash == profile.hash) == (name == "both terms")
        assert cut.drift == profile.drift


def outcome(
    profile: SensitivityProfile, name: str, psnr: list[float], against: str
) -> VariantResult:
    variant = Variant(name, SenCachePaper(profile, SenCacheConfig()), against)
    return VariantResult(variant, nfe=[25, 27], psnr=psnr, ssim=[0.9, 1.0])


def test_numbers_of_a_row_are_those_computed_by_hand(profile: SensitivityProfile) -> None:
    outcomes = [
        outcome(profile, "one", [40.0, 50.0], ""),
        outcome(profile, "other", [43.0, 52.0], "one"),
    ]
    one, other = summaries(outcomes, 50)
    assert (one["nfe_mean"], one["nfe_floor"], one["max_reuse"]) == (26, 20, 3)
    assert (one["psnr"]["mean"], one["psnr"]["worst"]) == (45, 40)
    # Two clips: the resampled means are 40, 45 and 50.
    assert (one["psnr"]["low"], one["psnr"]["high"]) == (40, 50)
    assert (one["ssim"]["mean"], one["ssim"]["worst"]) == (pytest.approx(0.95), 0.9)
    assert "difference" not in one
    gap = other["difference"]
    assert (gap["mean"], gap["low"], gap["high"], gap["tie"]) == (2.5, 2, 3, False)
    shown = io.StringIO()
    console = Console(file=shown, width=160)
    console.print(study_table(Study("title", [one, other]), "setting"))
    assert "45.0 ± 5.0" in shown.getvalue()
    assert "+2.50 ± 0.50" in shown.getvalue()


def test_a_row_cannot_be_set_against_one_that_did_not_run(profile: SensitivityProfile) -> None:
    with pytest.raises(ValueError, match="other is set against one"):
        summaries([outcome(profile, "other", [40.0, 50.0], "one")], 50)


def test_profiles_are_transferred_to_half_the_size(
    tiny_resolved: Callable[[str], ResolvedModel], request_for: Callable[..., SampleRequest]
) -> None:
    model = tiny_resolved("wan2.1-t2v-1.3b")
    template = request_for(model, width=96, height=48)
    other = other_settings(template, model.spec, 30, [])
    assert other == {
        "30 steps": {"num_inference_steps": 30},
        "48x16": {"width": 48, "height": 16},
    }
    with pytest.raises(UserError, match="--transfer-size 40 32: width 40"):
        other_settings(template, model.spec, 30, [40, 32])


@pytest.mark.variant
@pytest.mark.slow
def test_all_studies_are_measured_shown_and_returned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = measured("", tmp_path)
    assert result["setting"].startswith("demo 64x64x17, FlowMatchEuler")
    assert result["seeds"] == [20_000]
    rows = {name: study["rows"] for name, study in result["studies"].items()}
    assert [row["max_reuse"] for row in rows["n"]] == [1, 3, 7]
    assert [row["epsilon"] for row in rows["epsilon"]] == [0.06, 0.13, 0.4]
    assert [row["name"].partition(",")[0] for row in rows["terms"]] == list(TERMS)
    for name, row in ((name, row) for name, each in rows.items() for row in each):
        steps = 4 if row["name"].startswith("4 steps") else 7
        assert 1 < row["nfe_mean"] <= steps, name
        assert len(row["per_clip"]["psnr"]) == len(row["per_clip"]["nfe"]) == 1
    # A larger n or epsilon computes no more; without reuse a clip is the uncached one.
    for name in ("n", "epsilon"):
        nfe = [row["nfe_mean"] for row in rows[name]]
        assert nfe == sorted(nfe, reverse=True)
    for row in rows["epsilon"]:
        assert row["nfe_mean"] < 7 or row["psnr"]["mean"] == 100
    assert rows["epsilon"][-1]["nfe_mean"] < 7
    both, x_term, t_term = rows["terms"]
    assert len({both["profile"], x_term["profile"], t_term["profile"]}) == 3
    assert x_term["difference"]["against"] == t_term["difference"]["against"] == both["name"]
    one, reference = rows["calibration"]
    assert one["difference"]["against"] == reference["name"] == "2 clips, epsilon 0.2, n 3"
    curves = result["studies"]["calibration"]["curves"]["1 against 2 clips"]
    assert [(d["branch"], d["name"]) for d in curves] == [
        ("cond", "a_x"),
        ("cond", "a_t"),
        ("uncond", "a_x"),
        ("uncond", "a_t"),
    ]
    assert all(0 < d["mean"] <= d["worst"] for d in curves)  # no clip in common
    names = [row["name"] for row in rows["transfer"]]
    assert names == [
        f"{setting}, {kind}, epsilon 0.2, n 3"
        for setting in ("4 steps", "32x32")
        for kind in ("native", "transferred")
    ]
    shown = " ".join(capsys.readouterr().out.split())
    assert "most reuses in a row, n: demo 64x64x17" in shown
    assert "1 against 2 clips" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--clips -1", "--clips -1: at least 0"),
        ("--tuning-clips 0", "--tuning-clips 0: at least 1"),
        ("--calibration-clips 8 0", "--calibration-clips 0: at least 1"),
        ("--transfer-steps 2", "--transfer-steps 2: at least 3"),
        ("--transfer-size 0 32", "--transfer-size 0 32"),
        ("--model wan2.1-t2v-1.3b", "--prompts FILE"),
        ("--prompts nowhere.txt", "nowhere.txt"),
        ("--clips 5000", "5000 clips"),
    ],
)
def test_bad_input_is_one_line(
    arguments: str, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["ablation", "--device", "cpu", "--cache-dir", str(tmp_path), *arguments.split()]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert expected in error
