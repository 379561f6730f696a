"""Bad input of the main job: one clear line on stderr, exit code 2, no traceback, nothing made."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs.generate import main
from pipeline.models.registry import MODELS, shipped_folder
from pipeline.monitoring.result import RunResult
from pipeline.monitoring.totals import RunTotals
from sencache import SensitivityProfile
from tests.e2e.services import REPOSITORY


class _WrongCredentials(BaseHTTPRequestHandler):
    """An S3 server that knows no access key."""

    protocol_version = "HTTP/1.1"  # answers `Expect: 100-continue`, without which clients wait

    def _deny(self) -> None:
        self.close_connection = True
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _deny  # noqa: N815

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def denying_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _WrongCredentials)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-that-must-not-be-shown")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.txt").write_text("a red circle moving left\n")
    (tmp_path / "p.csv").write_text("name,text_of_clip\n1,a cat\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "p.doc").write_text("a cat")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "bad.yaml").write_text("prompts: [p.txt\noutput: out\n")
    (tmp_path / "unknown.yaml").write_text("prompts: p.txt\noutput: out\nguidance: 3\n")
    (tmp_path / "weights").mkdir()
    demo = MODELS["demo"]
    profile = SensitivityProfile.load(shipped_folder(demo) / demo.profile)
    dataclasses.replace(profile, drift=None).save(tmp_path / "old.json")
    return tmp_path


CASES = {
    "missing file": (["--prompts", "{folder}/nope.txt"], ["nope.txt"]),
    "empty file": (["--prompts", "{folder}/empty.txt"], ["empty.txt"]),
    "unknown format": (["--prompts", "{folder}/p.doc"], ["p.doc", ".parquet"]),
    "damaged file": (["--prompts", "{folder}/torn.parquet"], ["torn.parquet"]),
    "unknown column": (
        ["--prompts", "{folder}/p.csv", "--prompt-column", "caption_en"],
        ["caption_en", "text_of_clip"],
    ),
    "unknown model": (["--model", "wan2.1-t2v-1.3"], ["wan2.1-t2v-1.3", "wan2.1-t2v-1.3b"]),
    "unknown flag": (["--max-atempts", "3"], ["--max-atempts", "--max-attempts"]),
    "bad YAML": (["--config", "{folder}/bad.yaml"], ["bad.yaml", "line"]),
    "unknown field": (["--config", "{folder}/unknown.yaml"], ["unknown.yaml", "guidance"]),
    "missing config": (["--config", "{folder}/nope.yaml"], ["nope.yaml"]),
    "not a number": (["--sampling.width", "wide"], ["--sampling.width"]),
    "out of range": (["--max-failed-fraction", "1.5"], ["--max-failed-fraction"]),
    "no such policy": (["--cache.policy", "magic"], ["--cache.policy", "none", "paper"]),
    "unwritable output": (["--output", "{folder}/p.txt/out"], ["p.txt"]),
    "unwritable output, tried alone": (
        ["--output", "{folder}/p.txt/out", "--dry-run"],
        ["cannot write to", "p.txt/out", "a part of the path is a file"],
    ),
    "output with one slash": (["--output", "s3:/bucket/clips"], ["write s3://bucket/clips"]),
    "prompts without a slash": (["--prompts", "gs:bucket/p.txt"], ["write gs://bucket/p.txt"]),
    "size": (["--sampling.width", "70"], ["70", "use 64 or 80"]),
    "frames": (["--sampling.num-frames", "16"], ["use 13 or 17"]),
    "no weights": (["--model-path", "{folder}/weights"], ["weights", "model_index.json"]),
    "no such profile": (["--cache.profile", "{folder}/p.json"], ["p.json"]),
    "budget and epsilon": (
        ["--cache.budget", "0.4", "--cache.epsilon", "0.1"],
        ["--cache.budget and --cache.epsilon", "cannot both be given"],
    ),
    "quality and policy": (
        ["--cache.quality", "fast", "--cache.policy", "paper"],
        ["--cache.quality and --cache.policy", "cannot both be given"],
    ),
    "official policy": (["--cache.policy", "official"], ["authors' own", "OfficialProfile"]),
    "no drift": (
        ["--cache.quality", "high", "--cache.profile", "{folder}/old.json"],
        ["old.json", "drift", "jobs/calibrate.py"],
    ),
    "backend": (
        ["--parallel.backend", "xfuser", "--parallel.degree", "2", "--device", "cpu"],
        ["--parallel.backend xfuser", "context_parallel"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_exit_code_2(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, expected = CASES[case]
    given = [flag.format(folder=folder) for flag in flags]
    if "--prompts" not in given:
        given += ["--prompts", str(folder / "p.txt")]
    if "--output" not in given:
        given += ["--output", str(folder / "out")]
    assert main(given) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    for text in expected:
        assert text in error
    assert not list(folder.glob("out/**/*.mp4"))


def test_required_settings_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "--prompts" in capsys.readouterr().err


@pytest.mark.slow
def test_wrong_credentials_are_named_and_not_shown(
    denying_s3: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--prompts", str(folder / "p.txt"), "--output", "s3://bucket/out"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: cannot write to s3://bucket/out: the credentials are wrong")
    assert "secret-that-must-not-be-shown" not in error


def test_a_dry_run_says_the_nfe_of_a_plan_and_makes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--prompts", str(folder / "p.txt"), "--output", str(folder / "out"), "--dry-run"]
    assert main([*flags, "--cache.budget", "0.4"]) == 0
    assert "exactly 20 of 50 steps computed (NFE)" in " ".join(capsys.readouterr().out.split())
    assert not (folder / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_run_has_begun_ends_it_in_order(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.commands.generate.load_config", lambda argv: os.kill(os.getpid(), number)
    )
    before = signal.getsignal(number)
    assert main([]) == 130
    assert signal.getsignal(number) is before


def loaded_by(*runs: list[str]) -> set[str]:
    """Top-level modules that a process has loaded after some runs of the job, one after another."""
    code = (
        "import json, sys\n"
        "from jobs.generate import main\n"
        "for flags in json.loads(sys.argv[1]):\n"
        "    try:\n"
        "        code = main(flags)\n"
        "    except SystemExit as stop:\n"
        "        code = stop.code\n"
        "    assert code == 0, flags\n"
        "print('loaded', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    command = [sys.executable, "-c", code, json.dumps(runs)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.slow
def test_a_dry_run_does_not_wait_for_torch(folder: Path) -> None:
    where = ["--prompts", str(folder / "p.txt"), "--output", str(folder / "out"), "--dry-run"]
    loaded = loaded_by(
        where,
        [*where, "--cache.budget", "0.34", "--cache.gate", "2"],
        [*where, "--model", "wan2.1-t2v-1.3b", "--cache.policy", "none"],
    )
    assert "pipeline" in loaded
    assert not loaded & {"torch", "diffusers", "transformers"}


def test_help_waits_for_no_library_that_it_does_not_need() -> None:
    loaded = loaded_by(["--help"])
    assert "pydantic" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "ray", "pandas", "pyarrow", "numpy"}


@pytest.mark.parametrize(
    ("before", "now", "code", "said"),
    [
        ((0, 0), (4, 0), 0, ""),
        ((0, 0), (3, 1), 0, ""),  # a quarter, which is allowed
        ((0, 0), (2, 1), 1, "error: 33.3% of the samples failed, more than"),
        ((1, 1), (3, 1), 1, "error: 40.0% of the samples failed, more than"),  # 2 of 5
        ((4, 0), (0, 0), 0, ""),
        ((0, 0), (0, 0), 0, ""),
    ],
)
def test_the_exit_code_follows_the_share_that_failed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    before: tuple[int, int],
    now: tuple[int, int],
    code: int,
    said: str,
) -> None:
    """Samples of earlier runs, all and failed, and those of this run, ok and failed."""
    (done, failed), (ok, failed_now) = before, now
    totals = RunTotals(ok=ok, failed=failed_now)
    result = RunResult("r", done_before=done, failed_before=failed, totals=totals)
    monkeypatch.setattr("pipeline.run.run", lambda config: result)
    flags = ["--prompts=p.txt", "--output=out", "--max-failed-fraction=0.25"]
    assert main(flags) == code
    assert capsys.readouterr().err.startswith(said)
