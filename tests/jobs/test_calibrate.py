"""The calibration job: from a command line to a profile."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.calibrate import main
from pipeline.commands.sensitivities import _captions
from pipeline.config.run_config import load_config
from pipeline.dataset.mp4 import write
from sencache import SensitivityProfile
from tests.e2e.outputs import rows_of

SMALL = [
    "--device=cpu",
    "--sampling.num-inference-steps=4",
    "--sampling.width=32",
    "--sampling.height=32",
    "--sampling.num-frames=5",
]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A small calibration of the demonstration model."""
    (tmp_path / "captions.txt").write_text("a red ball moves left\n\na blue square moves up\n")
    return [
        f"--prompts={tmp_path / 'captions.txt'}",
        f"--output={tmp_path / 'profile.json'}",
        "--clips=2",
        "--sensitivities",
        *SMALL,
    ]


def error_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(argv) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


@pytest.mark.slow
def test_the_job_writes_a_profile_that_loads(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    profile = SensitivityProfile.load(tmp_path / "profile.json")
    assert profile.metadata.num_inference_steps == 4
    assert (profile.metadata.model, profile.metadata.width) == ("demo", 32)
    output = capsys.readouterr()
    assert profile.hash in output.out
    assert f"2 sampled clips, {2 * 2 * 10} network evaluations" in output.out
    assert "calibrating: 8 of 8 steps" in output.err
    assert "trying budgets: 24 of 24 runs" in output.err
    assert "planned caching on 4 further clips" in output.out
    assert not (tmp_path / "profile.json.partial").exists()


@pytest.mark.slow
def test_a_job_that_was_killed_goes_on(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments += ["--gain-clips=0", "--curve-clips=0"]
    assert main(arguments) == 0
    whole = (tmp_path / "profile.json").read_text()
    (tmp_path / "profile.json").unlink()
    module = importlib.import_module("sencache.calibration.calibrate")
    original, calls = module._measure, 0

    def dying(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(module, "_measure", dying)
    assert main(arguments) == 130
    assert (tmp_path / "profile.json.partial").exists()
    assert main(arguments) == 0
    assert calls == 3  # the first clip was not measured again
    assert (tmp_path / "profile.json").read_text() == whole
    assert not (tmp_path / "profile.json.partial").exists()


def test_what_another_calibration_left_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "profile.json.partial").write_text('{"format": "x"}\n')
    assert "profile.json.partial: journal has format 'x'" in error_of(arguments, capsys)


@pytest.mark.slow
def test_given_videos_are_measured(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for index in range(3):
        video = rng.integers(0, 256, (6, 40, 64, 3), np.uint8)
        write(video, 8, {}, tmp_path / f"video-{index}.mp4")
    assert main([*arguments, "--clips-from", str(tmp_path)]) == 0
    profile = SensitivityProfile.load(tmp_path / "profile.json")
    assert (profile.metadata.inputs, profile.metadata.num_clips) == ("clips", 2)
    assert "2 given clips" in capsys.readouterr().out
    assert main([*arguments, "--clips=8", "--clips-from", str(tmp_path)]) == 0
    assert SensitivityProfile.load(tmp_path / "profile.json").metadata.num_clips == 3


def test_more_clips_than_help_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [each for each in arguments if each != "--sensitivities"]
    assert "--clips is 17; 16 are the most" in error_of([*plain, "--clips=17"], capsys)


@pytest.mark.parametrize("flag", ["--gain-clips", "--curve-clips"])
def test_a_flag_of_sensitivities_is_refused_where_none_are_measured(
    arguments: list[str], capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    plain = [each for each in arguments if each != "--sensitivities"]
    line = error_of([*plain, flag, "2"], capsys)
    assert f"{flag} has no effect without --sensitivities or --clips-from" in line


@pytest.mark.slow
def test_by_default_the_job_makes_clips_of_a_dataset_and_writes_their_profile(
    local_ray: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [each for each in arguments if each != "--sensitivities"] + ["--replicas=1"]
    assert main([*plain, "--dry-run"]) == 0
    assert "2 clips to make" in capsys.readouterr().out
    assert not (tmp_path / "profile.json").exists()
    assert main(plain) == 0
    profile = SensitivityProfile.load(tmp_path / "profile.json")
    said = capsys.readouterr().out
    assert f"profile {profile.hash} of demo on 2 clips of 4 steps, 16 network evaluations" in said
    assert (profile.metadata.inputs, profile.metadata.num_clips) == ("sampled", 2)
    rows = rows_of(tmp_path / "profile.json.clips")
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert {row["caption"] for row in rows} == {"a red ball moves left", "a blue square moves up"}
    # The same command finds everything done, and writes the same file.
    (tmp_path / "profile.json").unlink()
    assert main(plain) == 0
    assert SensitivityProfile.load(tmp_path / "profile.json").hash == profile.hash


def test_a_model_that_starts_from_files_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_of([*arguments, "--model=ltx-video-i2v"], capsys)
    assert "ltx-video-i2v starts from files, and calibration samples from texts alone" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--clips", "0"], "--clips is 0"),
        (["--gain-clips=-1"], "--gain-clips is -1; it should be 0 or more"),
        (["--cache.policy", "paper"], "--cache.policy is not a flag"),
        (["--engine.adapters", "a.safetensors"], "leave --parallel.* and --engine.adapters out"),
        (["--model", "nonsense"], "unknown model"),
        (["--sampling.num-inference-steps", "2"], "cannot calibrate"),
        (["--sampling.width", "33"], "width 33 is not a multiple of 16"),
        (["--clips-from", "/nowhere"], "/nowhere is no file, and no folder with videos"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    message: str,
) -> None:
    assert message in error_of([*arguments, *change], capsys)
    assert not (tmp_path / "profile.json").exists()


def test_an_empty_caption_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.txt").write_text("\n\n")
    argv = ["--prompts", str(tmp_path / "captions.txt"), "--output", str(tmp_path / "p.json")]
    assert "holds no rows; give it at least one prompt" in error_of(argv, capsys)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", 'id,prompt\n1,"a ball, red"\n2,a square\n'),
        ("p.jsonl", '{"prompt": "a ball, red"}\n{"caption": "x", "prompt": "a square"}\n'),
        ("p.txt", "a ball, red\na square\n"),
    ],
)
def test_captions_come_from_every_kind_of_prompt_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    config = load_config([f"--prompts={tmp_path / name}", "--output=x"])
    assert _captions(config, 8) == ["a ball, red", "a square"]
    assert _captions(config, 1) == ["a ball, red"]


def test_a_bad_caption_is_one_line(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.csv").write_text('prompt,n\na,1\n"open,2\n')
    argv = [*arguments[1:], f"--prompts={tmp_path / 'p.csv'}"]
    assert "p.csv:2 the row is not valid CSV" in error_of(argv, capsys)


def test_an_interrupted_calibration_says_so(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*words: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.commands.sensitivities.measure_sensitivities", stop)
    assert main(arguments) == 130
    assert capsys.readouterr().err.splitlines() == [
        "interrupted; the same command goes on with the finished clips"
    ]


def test_weights_that_cannot_be_had_are_one_line(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = error_of([*arguments[:3], "--model=wan2.1-t2v-1.3b"], capsys)
    assert "the weights of wan2.1-t2v-1.3b (" in line
    assert "are not cached here and HF_HUB_OFFLINE is set: download them" in line
