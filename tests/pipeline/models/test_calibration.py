from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.calibrate import main
from pipeline.calibration import join_profiles, measure_profile, profile_table
from pipeline.models.load import load_pipeline
from pipeline.models.spec import ResolvedModel
from pipeline.request import SampleRequest
from sencache import ProfileError, SensitivityProfile

WAN, TWO_EXPERTS = "wan2.1-t2v-1.3b", "wan2.2-t2v-a14b"


def measure(model: ResolvedModel, request: SampleRequest, clips: int = 2) -> SensitivityProfile:
    pipe = load_pipeline(model, "cpu")
    return measure_profile(model, pipe, request, ["a dog", "a cat"], clips)


def test_a_profile_says_what_it_was_measured_on(
    tiny_resolved: Callable[[str], ResolvedModel], request_for: Callable[..., SampleRequest]
) -> None:
    model = tiny_resolved(WAN)
    profile = measure(model, request_for(model))
    facts = profile.metadata
    assert (facts.model, facts.revision, facts.family) == (WAN, model.revision, "wan")
    assert (facts.sampler, facts.shift) == ("UniPCMultistepScheduler", 8.0)
    assert (facts.num_inference_steps, facts.num_clips) == (5, 2)
    assert (facts.width, facts.height, facts.num_frames) == (64, 64, 9)
    assert set(profile.branches) == {"cond", "uncond"}
    # Three evaluations a step and branch, one at the last step.
    assert facts.network_evaluations == 2 * 2 * (3 * 4 + 1)


def test_two_experts_make_one_profile_over_the_whole_range(
    tiny_resolved: Callable[[str], ResolvedModel], request_for: Callable[..., SampleRequest]
) -> None:
    model = tiny_resolved(TWO_EXPERTS)
    profile = measure(model, request_for(model, num_inference_steps=20), clips=1)
    taus = [point.tau for point in profile.branches["cond"]]
    assert taus == sorted(taus, reverse=True)
    assert taus[0] > 0.875 > taus[-1]  # both sides of the boundary


def test_ranges_that_overlap_do_not_join(profile: SensitivityProfile) -> None:
    with pytest.raises(ProfileError, match="tau must fall"):
        join_profiles([profile, profile])


def test_the_table_shows_every_point_and_the_cost(profile: SensitivityProfile) -> None:
    table = profile_table(profile)
    assert table.count("\ncond ") == len(profile.branches["cond"])
    assert "1 network evaluations" in table
    assert profile.hash in table


def test_the_job_writes_a_profile_that_loads(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.txt").write_text("a dog\n\na cat\n")
    arguments = {
        "--prompts": tmp_path / "captions.txt",
        "--output": tmp_path / "profile.json",
        "--model": WAN,
        "--model-path": tiny_model(WAN),
        "--clips": 1,
        "--device": "cpu",
        "--sampling.num-inference-steps": 4,
        "--sampling.width": 32,
        "--sampling.height": 32,
        "--sampling.num-frames": 5,
        "--sampling.max-sequence-length": 16,
    }
    argv = [str(word) for pair in arguments.items() for word in pair]
    assert main(argv) == 0
    profile = SensitivityProfile.load(tmp_path / "profile.json")
    assert profile.metadata.num_inference_steps == 4
    assert profile.metadata.width == 32
    assert profile.hash in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--clips", "0"], "--clips is 0"),
        (["--cache.policy", "paper"], "--cache.policy is not a flag"),
        (["--model", "nonsense"], "unknown model"),
        (["--sampling.num-inference-steps", "2"], "cannot calibrate"),
        (["--sampling.width", "33"], "width 33 is not a multiple of 16"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    message: str,
) -> None:
    (tmp_path / "captions.txt").write_text("a dog\n")
    argv = ["--prompts", str(tmp_path / "captions.txt"), "--output", str(tmp_path / "p.json")]
    argv += ["--model", WAN, "--model-path", str(tiny_model(WAN)), "--device", "cpu"]
    argv += ["--sampling.width=32", "--sampling.height=32", "--sampling.num-frames=5"]
    assert main([*argv, *change]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "p.json").exists()


def test_an_empty_caption_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.txt").write_text("\n\n")
    assert main(["--prompts", str(tmp_path / "captions.txt"), "--output", "p.json"]) == 2
    assert "holds no captions" in capsys.readouterr().err
