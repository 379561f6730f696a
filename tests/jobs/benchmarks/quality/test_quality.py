"""The whole command on the demonstration model in a tiny setting, and its errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.benchmark import main
from jobs.benchmarks.quality.document.tables import markdown
from sencache import SensitivityProfile

TINY = "quality --device cpu --clips 2 --calibration-clips 1 --steps 6 --nfe 4 --reference-steps 8"


def measured(arguments: str, folder: Path) -> Any:
    out = folder / "out.json"
    cache = ["--cache-dir", str(folder / "cache"), "--json", str(out)]
    assert main([*f"{TINY} {arguments}".split(), *cache]) == 0
    return json.loads(out.read_text())["result"]


@pytest.mark.variant
@pytest.mark.slow
def test_arms_are_compared_with_both_references(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "--sampler euler --arms fewer-steps sencache-paper"
    result = measured(arguments, tmp_path)
    (sampler,) = result["samplers"]
    assert sampler == "FlowMatchEulerDiscreteScheduler/3.0"
    uncached, (steps, paper) = (result["samplers"][sampler][k] for k in ("uncached", "arms"))
    assert (uncached["nfe_mean"], steps["nfe_mean"]) == (6, 4)
    assert paper["nfe_mean"] <= 6
    assert set(uncached["to"]) == {"converged"}
    assert set(steps["to"]) == set(paper["to"]) == {"uncached", "converged"}
    assert "against_paper" in steps["to"]["uncached"]["psnr"]
    assert "against_paper" not in paper["to"]["uncached"]["psnr"]
    for arm in (steps, paper):
        assert len(arm["per_clip"]["uncached"]["psnr"]) == 2
        assert 0 < arm["to"]["converged"]["ssim"]["mean"] < 1
    assert result["seeds"] == [20_000, 20_001]
    assert result["request"]["num_inference_steps"] == 6
    shown = capsys.readouterr().out
    assert "fewer-steps 4" in shown
    assert "fewer-steps 4" in markdown(result)
    stored = sorted((tmp_path / "cache").glob("*.safetensors"))
    assert len(stored) == 2
    before = [path.stat().st_mtime_ns for path in stored]
    again = measured("--sampler euler --arms fewer-steps", tmp_path)
    assert [path.stat().st_mtime_ns for path in stored] == before
    psnr = again["samplers"][sampler]["arms"][0]["per_clip"]["converged"]["psnr"]
    assert psnr == pytest.approx(steps["per_clip"]["converged"]["psnr"], abs=1e-3)


@pytest.mark.slow
def test_the_other_sampler_is_judged_by_the_converged_run_alone(tmp_path: Path) -> None:
    result = measured("--sampler unipc --arms fewer-steps-best --split held-out", tmp_path)
    (arm,) = result["samplers"]["UniPCMultistepScheduler/3.0"]["arms"]
    assert set(arm["to"]) == {"converged"}
    assert "FlowMatchEuler" in arm["setting"]
    assert result["seeds"] == [30_000, 30_001]
    assert result["split"] == "held-out"


@pytest.mark.slow
def test_any_other_model_takes_a_prompt_file(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"a dog number {n}" for n in range(40)))
    model = f"--model wan2.1-t2v-1.3b --model-path {tiny_model('wan2.1-t2v-1.3b')}"
    arguments = f"{model} --prompts {prompts} --size 32x32x5 --sampler unipc --arms"
    result = measured(f"{arguments} fewer-steps sencache-paper", tmp_path)
    assert list(result["samplers"]) == ["UniPCMultistepScheduler/8.0"]
    for arm in result["samplers"]["UniPCMultistepScheduler/8.0"]["arms"]:
        assert arm["right"] is None
        assert len(arm["per_clip"]["converged"]["psnr"]) == 2
    assert markdown(result)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--arms nonsense", "no arm 'nonsense'"),
        ("--nfe 51", "--nfe 51"),
        ("--clips 1000", "1000 clips"),
        ("--calibration-clips -1", "--calibration-clips"),
        ("--prompts nowhere.txt", "nowhere.txt"),
        ("--model wan", "unknown model"),
        ("--size 64x64", "--size 64x64: write it as"),
        ("--size 65x64x17", "width 65"),
    ],
)
def test_bad_input_is_one_line(
    arguments: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quality", "--device", "cpu", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert expected in error


@pytest.mark.slow
def test_a_given_profile_serves_other_steps_and_another_shift(tmp_path: Path) -> None:
    shipped = Path("pipeline/models/demo/profile.json").resolve()
    arguments = f"--sampler euler --arms planned --shift 5 --profile {shipped}"
    result = measured(arguments, tmp_path)
    (sampler,) = result["samplers"]
    assert sampler == "FlowMatchEulerDiscreteScheduler/5.0"
    (arm,) = result["samplers"][sampler]["arms"]
    assert arm["nfe_mean"] == 4
    assert result["profile"] == SensitivityProfile.load(shipped).hash
    assert not list((tmp_path / "cache").glob("profile-*.json"))


def test_a_profile_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "profile.json").write_text("{}")
    assert main([*TINY.split(), "--profile", str(tmp_path / "profile.json")]) == 2
    assert "profile.json" in capsys.readouterr().err
