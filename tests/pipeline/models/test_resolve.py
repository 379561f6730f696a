from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pipeline.errors import UserError
from pipeline.models import resolve, weights
from pipeline.models.registry import get_model
from pipeline.models.resolve import resolve_model
from pipeline.models.weights import MANIFEST, MANIFEST_COMMAND, node_copy
from pipeline.storage.storage import Storage

NAME = "wan2.1-t2v-1.3b"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The files of a saved pipeline, as far as resolving reads them."""
    folder = tmp_path / "saved"
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    (folder / "transformer" / "config.json").write_text("{}")
    (folder / "transformer" / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    return folder


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def mirror(saved: Path, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """The same files in a bucket, made as the documentation says."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        weights.CACHE_ENV: str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{os.urandom(4).hex()}"
    boto3.client("s3", endpoint_url=s3_url, region_name="us-east-1").create_bucket(Bucket=bucket)
    storage = Storage(f"s3://{bucket}/models/wan")
    subprocess.run(["bash", "-c", MANIFEST_COMMAND], cwd=saved, check=True)
    for path in saved.rglob("*"):
        if path.is_file():
            storage.put_file(path.relative_to(saved).as_posix(), path)
    return storage


def revision(folder: Path) -> str:
    resolve._folder_revision.cache_clear()
    return resolve_model(NAME, str(folder)).revision


def test_a_hub_model_resolves_without_network_to_its_pinned_commit() -> None:
    resolved = resolve_model(NAME)
    assert resolved.location == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    assert resolved.revision == get_model(NAME).revision
    assert pickle.loads(pickle.dumps(resolved)) == resolved


def test_the_revision_of_a_folder_is_its_content(saved: Path, tmp_path: Path) -> None:
    before = revision(saved)
    assert len(before) == 16
    shutil.copytree(saved, tmp_path / "moved")
    assert revision(tmp_path / "moved") == before
    (saved / "README.md").write_text("a card")
    (saved / ".cache").mkdir()
    (saved / ".cache" / "x.json").write_text("{}")
    assert revision(saved) == before
    (saved / "transformer" / "model.safetensors").write_bytes(bytes(range(256)) * 99)
    assert revision(saved) != before


def test_renaming_a_file_changes_the_revision(saved: Path) -> None:
    before = revision(saved)
    (saved / "transformer").rename(saved / "transformer_2")
    assert revision(saved) != before


def test_a_file_uri_is_a_folder(saved: Path) -> None:
    assert resolve_model(NAME, f"file://{saved}") == resolve_model(NAME, str(saved))


@pytest.mark.slow
def test_a_mirror_has_the_revision_of_the_folder(saved: Path, mirror: Storage) -> None:
    resolved = resolve_model(NAME, mirror.uri)
    assert resolved.location == mirror.uri
    assert resolved.revision == revision(saved)


def test_a_node_copies_a_mirror_once(saved: Path, mirror: Storage) -> None:
    expected = revision(saved)
    with ThreadPoolExecutor(4) as pool:
        copies = set(pool.map(lambda _: node_copy(mirror.uri, expected), range(4)))
    (copy,) = copies
    assert revision(copy) == expected
    for entry in mirror.list():
        mirror.delete(entry.key)
    assert node_copy(mirror.uri, expected) == copy


def test_a_torn_copy_is_never_used(saved: Path, mirror: Storage, tmp_path: Path) -> None:
    expected = revision(saved)
    torn = tmp_path / "cache" / "models" / f"{expected}.partial"
    torn.mkdir(parents=True)
    (torn / "model_index.json").write_text("half")
    (torn / "left-over.json").write_text("{}")
    assert revision(node_copy(mirror.uri, expected)) == expected
    assert not torn.exists()


@pytest.mark.slow
def test_a_damaged_file_in_a_mirror_is_refused(
    saved: Path, mirror: Storage, tmp_path: Path
) -> None:
    expected = revision(saved)
    mirror.put_bytes("transformer/model.safetensors", b"other")
    with pytest.raises(UserError, match=r"model\.safetensors is not the file that SHA256SUMS"):
        node_copy(mirror.uri, expected)
    assert not (tmp_path / "cache" / "models" / expected).exists()


def test_a_mirror_that_changed_under_a_run_is_refused(mirror: Storage) -> None:
    with pytest.raises(UserError, match="replaced meanwhile"):
        node_copy(mirror.uri, "0" * 16)


@pytest.mark.slow
def test_a_mirror_without_digests_says_how_to_make_them(mirror: Storage) -> None:
    mirror.delete(MANIFEST)
    with pytest.raises(UserError, match=r"has no SHA256SUMS.*sha256sum"):
        resolve_model(NAME, mirror.uri)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["nonsense", f"{'0' * 64}  ../outside.json", "0" * 64])
def test_a_manifest_with_a_bad_line_is_refused(mirror: Storage, line: str) -> None:
    mirror.put_bytes(MANIFEST, mirror.read_bytes(MANIFEST) + line.encode() + b"\n")
    with pytest.raises(UserError, match=r"SHA256SUMS line 4 is not"):
        resolve_model(NAME, mirror.uri)


def test_a_missing_folder_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such folder; give a folder with model_index\.json"):
        resolve_model(NAME, str(tmp_path / "absent"))


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model_index\.json"):
        resolve_model(NAME, str(tmp_path))


@pytest.mark.parametrize("text", ["not json", "{}", "[]"])
def test_an_index_without_a_class_is_refused(saved: Path, text: str) -> None:
    (saved / "model_index.json").write_text(text)
    with pytest.raises(UserError, match="does not name a pipeline class"):
        resolve_model(NAME, str(saved))


def test_weights_of_another_class_are_refused(saved: Path) -> None:
    with pytest.raises(UserError, match="holds a WanPipeline, but ltx-video is a LTXPipeline"):
        resolve_model("ltx-video", str(saved))


def test_a_real_saved_pipeline_resolves(tiny_model: Callable[[str], Path]) -> None:
    assert len(revision(tiny_model(NAME))) == 16
