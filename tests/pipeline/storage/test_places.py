"""Local paths on a cluster and in a Ray job."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from ray._private.runtime_env.working_dir import WorkingDirPlugin

from jobs import benchmark, calibrate, export, generate, report
from pipeline.errors import StorageError, UserError
from pipeline.models.resolve import resolve_model
from pipeline.prompts.reader import read_source
from pipeline.storage.places import PACKAGES, check_kept, host_note
from pipeline.storage.storage import Storage

HOST = socket.gethostname()
SENT = f" (among the files sent with this Ray job, on host {HOST})"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Ray job's code, as the current one."""
    folder = tmp_path.joinpath("session_x", *PACKAGES, "_ray_pkg_0123")
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / "p.txt").write_text("a red ball\n")
    return folder


def test_ray_unpacks_jobs_there(tmp_path: Path) -> None:
    plugin = WorkingDirPlugin(os.fspath(tmp_path / PACKAGES[0]), None)  # type: ignore[arg-type]
    assert Path(plugin._resources_dir) == tmp_path.joinpath(*PACKAGES)


@pytest.mark.parametrize("given", ["out", "./out", "file://out", "../other/out"])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_relative_output_in_a_ray_job_is_refused(
    package: Path, capsys: pytest.CaptureFixture[str], given: str, more: list[str]
) -> None:
    if given.startswith("file"):
        given = f"file://{package}/out"
    assert generate.main(["--prompts", "p.txt", "--output", given, *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot keep files in /")
    assert line.endswith(
        f"/out{SENT}: Ray deletes this folder after the job. In a Ray job a relative path leads "
        "there; give s3://bucket/prefix, or the whole path of a folder that all nodes share"
    )
    assert [path.name for path in package.iterdir()] == ["p.txt"]


def test_a_place_is_tried_without_leaving_anything(tmp_path: Path) -> None:
    check_kept(str(tmp_path / "new/out"), probe=True)
    check_kept("s3://bucket/out", probe=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match=r"^cannot write to /proc/nope.*: "):
        check_kept("/proc/nope", probe=True)


@pytest.mark.parametrize(
    ("uri", "right"),
    [
        ("s3:/bucket/clips", "s3://bucket/clips"),
        ("s3:bucket", "s3://bucket"),
        ("gs:/bucket", "gs://bucket"),
        ("file:/tmp/out", "/tmp/out"),
        ("s3:", "s3://"),
        ("unknown:/place", "unknown://place"),
    ],
)
def test_a_uri_that_has_lost_a_slash_is_no_local_folder(uri: str, right: str) -> None:
    with pytest.raises(StorageError, match=rf"write {right}, or \./{uri} for a local path"):
        Storage(uri)
    with pytest.raises(StorageError, match="lacks slashes"):
        read_source(uri)


@pytest.mark.parametrize(
    "name", ["C:/clips", "C:clips", "take:2", "./s3:/bucket", "a::b", ":fire:"]
)
def test_a_colon_in_a_local_name_is_no_protocol(name: str) -> None:
    assert Path(Storage(name).uri).is_absolute()


def test_no_job_keeps_files_there(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> bool:
        return capsys.readouterr().err.startswith("error: cannot keep files in /")

    assert calibrate.main(["--prompts", "p.txt", "--output", "profile.json"]) == 2
    assert refused()
    assert report.main(["--output", "out"]) == 2
    assert refused()
    assert export.main(["--output", str(tmp_path / "out"), "--to", "wds"]) == 2
    assert refused()
    assert benchmark.main(["sizing", "--json", "numbers.json"]) == 2
    assert refused()


def test_files_sent_with_a_job_are_read(package: Path) -> None:
    assert [row.values["prompt"] for row in read_source("p.txt")] == ["a red ball"]
    check_kept(str(package.parents[3] / "out"))
    check_kept("s3://bucket/runtime_resources/working_dir_files/x")


def test_what_was_not_sent_with_a_job_is_said(package: Path) -> None:
    with pytest.raises(UserError) as caught:
        list(read_source("prompts/absent.txt"))
    assert str(caught.value).startswith(f"prompts/absent.txt{SENT}: not found")
    with pytest.raises(UserError) as caught:
        resolve_model("demo", "weights")
    assert str(caught.value).startswith(f"model_path weights{SENT}: no such folder")
    with pytest.raises(StorageError) as caught:
        Storage(".").read_bytes("lora.safetensors")
    assert str(caught.value) == f"cannot read {package}/lora.safetensors{SENT}: not found"


def test_on_a_cluster_a_local_path_names_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {"HOME": "/root"}
    joined = {"RAY_ADDRESS": "10.0.0.1:6379"}
    job = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    assert host_note("/data", alone) == host_note("s3://a/b", joined) == ""
    assert host_note("/data", joined) == host_note("data", job) == f" (local folder of host {HOST})"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(StorageError, match=f"local folder of host {HOST}"):
        Storage(str(tmp_path)).read_bytes("x")
