"""Storage on an S3 server that fails on demand."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import pytest
import s3fs

from pipeline.storage.keys import StoredFile
from pipeline.storage.storage import Storage
from tests.pipeline.storage.faulty_s3 import (
    SECRET,
    FaultyS3,
    failure,
    use_keys,
)


def test_a_create_is_one_request_and_a_store_without_conditions_is_asked_first(
    s3: FaultyS3, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Storage("s3://clips/run")
    assert storage.create_bytes("x", b"a")
    assert s3.requests == ["PUT"]
    for expected in (True, False):
        s3.faults.append(501)
        assert storage.create_bytes("y", b"a") is expected
    assert len([text for text in caplog.messages if "has no conditional put" in text]) == 1


def test_a_create_whose_answer_is_lost_says_that_something_is_there(s3: FaultyS3) -> None:
    storage = Storage("s3://clips/run")
    s3.lost_answers = 1
    assert not storage.create_bytes("x", b"a")
    assert storage.read_bytes("x") == b"a"


@pytest.mark.parametrize("store", ["keeps conditions", "ignores them", "refuses them"])
def test_the_probe_finds_out_whether_conditions_hold(s3: FaultyS3, store: str) -> None:
    storage = Storage("s3://clips/run")
    s3.ignores_conditions = store == "ignores them"
    s3.refuses_conditions = store == "refuses them"
    found = storage.check_writable()
    assert found.conditional is (store == "keeps conditions")
    assert found.uri == storage.uri
    assert pickle.loads(pickle.dumps(found)).conditional is found.conditional
    assert s3.requests == ["PUT", "PUT", "DELETE"]
    assert storage.list() == []


def test_a_probe_whose_answers_are_lost_is_right_all_the_same(s3: FaultyS3) -> None:
    for s3.ignores_conditions in (False, True):
        s3.lost_answers = 2
        assert Storage("s3://clips/run").check_writable().conditional is not s3.ignores_conditions


def test_odd_keys_round_trip_on_s3(s3: FaultyS3) -> None:
    storage = Storage("s3://clips/a b")
    keys = ["a+b", "c d/é=?&#%41", "[x]*", "~"]
    for key in keys:
        storage.put_bytes(key, key.encode())
    assert [entry.key for entry in storage.list()] == sorted(keys)
    assert [storage.read_bytes(key).decode() for key in keys] == keys


def test_one_request_per_operation(s3: FaultyS3, tmp_path: Path) -> None:
    storage = Storage("s3://clips/run")
    source = tmp_path / "film.mp4"
    source.write_bytes(b"film")
    for call, methods in (
        (lambda: storage.put_bytes("data/a", b"1"), ["PUT"]),
        (lambda: storage.put_file("media/a.mp4", source), ["PUT"]),
        (lambda: storage.read_bytes("data/a"), ["GET"]),
        (lambda: storage.exists("data/a"), ["HEAD"]),
        (lambda: storage.list(), ["GET"]),
        (lambda: storage.delete("data/a"), ["DELETE"]),
    ):
        s3.requests.clear()
        call()
        assert s3.requests == methods


@pytest.mark.slow
def test_multipart_upload_of_a_large_file(s3: FaultyS3, tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    with source.open("wb") as file:
        file.truncate(100 << 20)
    s3.requests.clear()
    storage = Storage("s3://clips")
    storage.put_file("film.mp4", source)
    assert s3.requests == ["POST", "PUT", "PUT", "POST"]
    assert storage.create_bytes("clip.mp4", source.read_bytes())
    assert s3.requests == 2 * ["POST", "PUT", "PUT", "POST"]
    sizes = [StoredFile(name, 100 << 20) for name in ("clip.mp4", "film.mp4")]
    assert storage.list() == sizes


def test_a_browser_learns_from_s3_what_a_file_is(s3: FaultyS3) -> None:
    storage = Storage("s3://clips/run")
    assert storage.create_bytes("media/a.mp4", b"clip")
    storage.put_bytes("report/index.html", b"<p>")
    storage.put_bytes("data/part.parquet", b"")
    client = s3.client("s3")
    kinds = [
        client.head_object(Bucket="clips", Key=f"run/{entry.key}")["ContentType"]
        for entry in storage.list()
    ]
    assert kinds == ["binary/octet-stream", "video/mp4", "text/html"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [503, 500, 502, 429, 0])
def test_transient_faults_pass(s3: FaultyS3, fault: int) -> None:
    storage = Storage("s3://clips/run")
    s3.faults.extend([fault, fault])
    storage.put_bytes("a", b"1")
    assert s3.requests == ["PUT"] * 3
    s3.faults.extend([fault])
    assert storage.read_bytes("a") == b"1"
    s3.faults.extend([fault])
    assert storage.list() == [StoredFile("a", 1)]
    with storage.open("a") as file:
        s3.faults.extend([fault])
        assert file.read() == b"1"
    s3.faults.extend([fault])
    storage.delete("a")
    assert s3.requests == ["PUT"] * 3 + ["GET"] * 4 + ["HEAD"] + ["GET"] * 2 + ["DELETE"] * 2


@pytest.mark.slow
def test_the_retry_budget_is_bounded(s3: FaultyS3, caplog: pytest.LogCaptureFixture) -> None:
    storage = Storage("s3://clips/run", retry_s=2)
    storage.put_bytes("warm", b"")
    s3.requests.clear()
    s3.faults.extend([503] * 10_000)
    text = failure(lambda: storage.put_bytes("a", b"1"))
    assert text.startswith("cannot write s3://clips/run/a: the service answers SlowDown: ")
    assert text.endswith(f"(tried {len(s3.requests)} times)")
    assert len(s3.requests) > 1
    failure(lambda: Storage("s3://clips/run", retry_s=0.3).put_bytes("b", b"1"))
    # Once, for all tries at both files.
    (said,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert said.startswith("cannot write s3://clips/run/a yet, trying again for up to 2 s: ")


def test_denied_is_not_retried(s3: FaultyS3) -> None:
    s3.faults.append(403)
    text = failure(lambda: Storage("s3://clips/run").put_bytes("a", b"1"))
    assert text == (
        "cannot write s3://clips/run/a: access denied: the account needs permission for this path"
    )
    assert s3.requests == ["PUT"]


def test_missing_bucket_is_said(s3: FaultyS3) -> None:
    storage = Storage("s3://absent/run")
    problem = "the bucket does not exist: create it or correct the name"
    assert failure(storage.check_writable).endswith(f": {problem}")
    assert failure(lambda: storage.list()) == f"cannot list s3://absent/run: {problem}"
    assert failure(lambda: storage.list("data/")) == f"cannot list s3://absent/run/data: {problem}"
    assert failure(lambda: storage.read_bytes("a")) == f"cannot read s3://absent/run/a: {problem}"
    assert "the bucket does not exist" in failure(lambda: storage.exists("a"))


@pytest.mark.slow
def test_credentials_are_checked(s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    iam = s3.client("iam")
    keys = {}
    for user in ("writer", "stranger"):
        iam.create_user(UserName=user)
        made = iam.create_access_key(UserName=user)["AccessKey"]
        keys[user] = (made["AccessKeyId"], made["SecretAccessKey"])
    policy = {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(
        UserName="writer",
        PolicyName="s3",
        PolicyDocument=json.dumps({"Version": "2012-10-17", **policy}),
    )
    s3.control("reset-auth", "0")

    def probe(key: str, secret: str) -> str:
        use_keys(monkeypatch, key, secret)
        return failure(Storage("s3://clips/run").check_writable)

    use_keys(monkeypatch, *keys["writer"])
    Storage("s3://clips/run").check_writable()
    assert "access denied" in probe(*keys["stranger"])
    assert "the credentials are wrong" in probe(keys["writer"][0], SECRET)
    assert "the credentials are wrong" in probe("AKIAUNKNOWNUNKNOWNKEY", SECRET)


@pytest.mark.slow
def test_no_credentials_and_no_endpoint_are_said(
    s3: FaultyS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr("pipeline.storage.storage.PROBE_RETRY_S", 0.1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    use_keys(monkeypatch, "testing", SECRET)
    text = failure(Storage("s3://clips/run").check_writable)
    assert text.startswith("cannot write to s3://clips/run: the service ")
    assert "does not answer properly: Could not connect to the endpoint URL" in text
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    assert "no credentials found: set AWS_ACCESS_KEY_ID" in failure(Storage("s3://clips").list)
