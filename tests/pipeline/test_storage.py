"""Storage against real folders and a real S3 server that can be told to fail."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import socket
import threading
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from pipeline.errors import StorageError
from pipeline.local_files import TEMP_PREFIX
from pipeline.storage import Entry, Storage, locate

SECRET = "Sw0rdfish-secret-key"


@dataclass
class FaultyS3:
    """A loopback S3 server: counts what it is asked and fails when told to."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    faults: deque[int] = field(default_factory=deque)
    lost_answers: int = 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        self.requests.append(environ["REQUEST_METHOD"])
        if self.lost_answers:
            self.lost_answers -= 1
            list(self.app(environ, lambda *_: None))
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        if not self.faults:
            return self.app(environ, start)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status = self.faults.popleft()
        if status == 0:  # drop the connection
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        code = {
            503: "SlowDown",
            500: "InternalError",
            501: "NotImplemented",
            403: "AccessDenied",
        }.get(status, "Odd")
        body = f"<Error><Code>{code}</Code><Message>told to</Message></Error>".encode()
        start(f"{status} Told", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
        return [body]

    app = DomainDispatcherApplication(create_backend_app)

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1")

    def control(self, path: str, body: str = "") -> None:
        headers = {"Content-Type": "text/plain"}
        url = f"{self.url}/moto-api/{path}"
        request = urllib.request.Request(url, data=body.encode(), headers=headers)
        urllib.request.urlopen(request).close()


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    app = FaultyS3()
    http = make_server("127.0.0.1", 0, app, threaded=True)
    app.url = f"http://127.0.0.1:{http.port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield app
    http.shutdown()
    thread.join()


@pytest.fixture
def s3(server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    use_keys(monkeypatch, "testing", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("pipeline.storage.BACKOFF_S", 0.001)
    server.control("reset")
    server.client("s3").create_bucket(Bucket="clips")
    server.requests.clear()
    yield server
    server.faults.clear()
    server.control("reset-auth", "inf")


def use_keys(monkeypatch: pytest.MonkeyPatch, key: str, secret: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["local", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Storage("s3://clips/run")
    return Storage(str(tmp_path / "run" if request.param == "local" else f"memory://{tmp_path}"))


def failure(call: Callable[[], object]) -> str:
    """The one line of the StorageError that `call` raises."""
    with pytest.raises(StorageError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text
    return text


def test_round_trip_list_and_delete(storage: Storage, tmp_path: Path) -> None:
    assert storage.list() == []
    assert storage.list("data/part-") == []
    source = tmp_path / "source.mp4"
    source.write_bytes(b"film")
    storage.put_bytes("data/part-1.parquet", b"one")
    storage.put_bytes("data/part-1.parquet", b"three")
    storage.put_bytes("data/other", b"")
    storage.put_file("media/ab/ab12.mp4", source)
    assert storage.read_bytes("data/part-1.parquet") == b"three"
    assert storage.read_bytes("media/ab/ab12.mp4") == b"film"
    everything = [
        Entry("data/other", 0),
        Entry("data/part-1.parquet", 5),
        Entry("media/ab/ab12.mp4", 4),
    ]
    assert storage.list() == everything
    assert storage.list("data/part-") == everything[1:2]
    assert storage.list("media") == everything[2:]
    assert storage.exists("data/other")
    assert not storage.exists("data")
    assert not storage.exists("data/part-2.parquet")
    storage.delete("data/other")
    storage.delete("data/other")
    assert not storage.exists("data/other")
    assert storage.list() == everything[1:]


def test_of_several_creators_one_wins(storage: Storage, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    assert storage.create_file("media/x.mp4", tmp_path / "a")
    assert not storage.create_file("media/x.mp4", tmp_path / "b")
    assert storage.read_bytes("media/x.mp4") == b"a"
    assert [entry.key for entry in storage.list()] == ["media/x.mp4"]
    storage.put_file("media/x.mp4", tmp_path / "b")
    assert storage.read_bytes("media/x.mp4") == b"b"
    with pytest.raises(FileNotFoundError):
        storage.create_file("media/y.mp4", tmp_path / "absent")


def test_creators_at_the_same_time(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}").write_bytes(bytes([number]) * 1000)
    storages = [Storage(str(tmp_path / "run")) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for key in map(str, range(20)):
            won = list(
                pool.map(
                    lambda n, key=key: storages[n].create_file(key, tmp_path / f"{n}"), range(8)
                )
            )
            assert sum(won) == 1
            assert storages[0].read_bytes(key) == bytes([won.index(True)]) * 1000


def test_a_folder_without_hard_links_creates_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    (tmp_path / "a").write_bytes(b"a")
    storage = Storage(str(tmp_path / "run"))
    assert storage.create_file("x", tmp_path / "a")
    assert not storage.create_file("x", tmp_path / "a")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["x"]


def test_a_create_is_one_request_and_a_store_without_conditions_is_asked_first(
    s3: FaultyS3, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    storage = Storage("s3://clips/run")
    assert storage.create_file("x", tmp_path / "a")
    assert s3.requests == ["PUT"]
    for expected in (True, False):
        s3.faults.append(501)
        assert storage.create_file("y", tmp_path / "a") is expected
    assert "has no conditional put" in caplog.text


def test_a_create_whose_answer_is_lost_says_that_something_is_there(
    s3: FaultyS3, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    storage = Storage("s3://clips/run")
    s3.lost_answers = 1
    assert not storage.create_file("x", tmp_path / "a")
    assert storage.read_bytes("x") == b"a"


def test_listing_is_fresh_after_another_writer(storage: Storage) -> None:
    storage.put_bytes("data/a", b"1")
    assert [entry.key for entry in storage.list("data/")] == ["data/a"]
    Storage(storage.uri).put_bytes("data/b", b"2")
    assert [entry.key for entry in storage.list("data/")] == ["data/a", "data/b"]
    Storage(storage.uri).delete("data/a")
    assert [entry.key for entry in storage.list("data/")] == ["data/b"]
    assert not storage.exists("data/a")


def test_open_seeks_and_reads_ranges(storage: Storage) -> None:
    data = bytes(range(256)) * 9000
    storage.put_bytes("blob", data)
    with storage.open("blob") as file:
        assert file.seekable()
        file.seek(-10, os.SEEK_END)
        assert file.read() == data[-10:]
        file.seek(1_500_000)
        assert file.read(5) == data[1_500_000:1_500_005]
        assert file.tell() == 1_500_005
        file.seek(0)
        assert file.read() == data


@pytest.mark.parametrize("call", ["read_bytes", "open"])
def test_missing_file_is_named(storage: Storage, call: str) -> None:
    storage.put_bytes("other", b"")
    text = failure(lambda: getattr(storage, call)("no/such"))
    assert text == f"cannot read {storage.uri}/no/such: not found"


def test_missing_source_is_the_callers_bug(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.mp4"):
        storage.put_file("media/x.mp4", tmp_path / "absent.mp4")


def test_pickle_leaves_connections_behind(storage: Storage) -> None:
    storage.put_bytes("a", b"1")
    copy = pickle.loads(pickle.dumps(storage))
    assert copy == storage
    assert "_fs" not in vars(copy)
    assert copy.read_bytes("a") == b"1"


def test_check_writable_leaves_nothing(storage: Storage) -> None:
    storage.check_writable()
    assert storage._fs.find(storage._root) in ([], {})


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/./b", f"x/{TEMP_PREFIX}1", "a\0"]
)
def test_bad_keys_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        Storage(str(tmp_path)).put_bytes(key, b"")


@given(
    files=st.dictionaries(
        st.lists(
            st.text(
                st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cc"]),
                min_size=1,
                max_size=12,
            ).filter(lambda part: part not in (".", "..") and not part.startswith(TEMP_PREFIX)),
            min_size=2,
            max_size=2,
        ).map("/".join),
        st.binary(max_size=64),
        max_size=4,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_key_round_trips(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    storage = Storage(str(tmp_path_factory.mktemp("keys")))
    folders = {key.partition("/")[0] for key in files}
    for key, data in files.items():
        storage.put_bytes(key, data)
    assert {entry.key: entry.size for entry in storage.list()} == {
        key: len(data) for key, data in files.items()
    }
    assert {key: storage.read_bytes(key) for key in files} == files
    assert {entry.key for folder in folders for entry in storage.list(f"{folder}/")} == set(files)


def test_odd_keys_round_trip_on_s3(s3: FaultyS3) -> None:
    storage = Storage("s3://clips/a b")
    keys = ["a+b", "c d/é=?&#%41", "[x]*", "~"]
    for key in keys:
        storage.put_bytes(key, key.encode())
    assert [entry.key for entry in storage.list()] == sorted(keys)
    assert [storage.read_bytes(key).decode() for key in keys] == keys


def test_uris_are_normalised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert Storage("out/").uri == f"{tmp_path}/out"
    assert Storage("~/out").uri == "/home/someone/out"
    assert Storage(f"file://{tmp_path}/out").uri == f"{tmp_path}/out"
    assert Storage("s3://clips/").uri == "s3://clips"
    assert failure(lambda: Storage("s3://")) == "s3://: names no place; write s3://bucket/prefix"
    assert "Protocol not known" in failure(lambda: Storage("odd://x/y").list())


def test_locate_splits_folder_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("p.csv") == (Storage(str(tmp_path)), "p.csv")
    assert locate("/p.csv") == (Storage("/"), "p.csv")
    assert locate("s3://clips/in/p.csv") == (Storage("s3://clips/in"), "p.csv")
    assert locate("s3://clips/p.csv") == (Storage("s3://clips"), "p.csv")


def test_the_root_folder_is_a_storage(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert Storage("/").list(f"{tmp_path}/a".lstrip("/")) == [Entry(f"{tmp_path}/a".lstrip("/"), 1)]
    assert Storage("/").read_bytes(f"{tmp_path}/a".lstrip("/")) == b"1"
    assert failure(lambda: Storage("/").read_bytes("absent")) == "cannot read /absent: not found"


# Local faults.


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "run"))
    storage.put_bytes("a", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        text = failure(lambda: storage.put_bytes("a", b"n" * 100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert text.endswith("/run/a: the file is larger than this file system or user limit allows")
    assert storage.read_bytes("a") == b"old"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left: free some"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied: choose a folder"),
        (errno.EDQUOT, "disk quota is used up"),
    ],
)
def test_permanent_local_faults_are_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    calls = []

    def fsync(handle: int) -> None:
        calls.append(handle)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", fsync)
    storage = Storage(str(tmp_path))
    assert words in failure(lambda: storage.put_bytes("a", b"1"))
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_transient_local_fault_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, faults = os.fsync, deque([errno.ESTALE, errno.EAGAIN])

    def fsync(handle: int) -> None:
        if faults:
            raise OSError(faults.popleft(), "told to")
        real(handle)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("pipeline.storage.BACKOFF_S", 0.001)
    storage = Storage(str(tmp_path))
    storage.put_bytes("a", b"1")
    assert storage.list() == [Entry("a", 1)]


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = Storage(str(tmp_path / "file"))
    for call in (storage.check_writable, storage.list, lambda: storage.read_bytes("x")):
        assert "a part of the path is a file, not a folder" in failure(call)
    assert not storage.exists("x")
    folder = Storage(str(tmp_path))
    assert "this is a folder, not a file" in failure(lambda: folder.read_bytes("."))


def test_unfinished_writes_of_a_dead_process_are_not_listed(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.put_bytes("data/a", b"1")
    (tmp_path / "data" / f"{TEMP_PREFIX}dead").write_bytes(b"half")
    assert storage.list() == [Entry("data/a", 1)]


# S3 faults.


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


def test_multipart_upload_of_a_large_file(s3: FaultyS3, tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    with source.open("wb") as file:
        file.truncate(100 << 20)
    s3.requests.clear()
    storage = Storage("s3://clips")
    storage.put_file("film.mp4", source)
    assert s3.requests == ["POST", "PUT", "PUT", "POST"]
    assert storage.list() == [Entry("film.mp4", 100 << 20)]


@pytest.mark.parametrize("fault", [503, 500, 502, 429, 0])
def test_transient_faults_pass(s3: FaultyS3, fault: int) -> None:
    storage = Storage("s3://clips/run")
    s3.faults.extend([fault, fault])
    storage.put_bytes("a", b"1")
    assert s3.requests == ["PUT"] * 3
    s3.faults.extend([fault])
    assert storage.read_bytes("a") == b"1"
    s3.faults.extend([fault])
    assert storage.list() == [Entry("a", 1)]
    with storage.open("a") as file:
        s3.faults.extend([fault])
        assert file.read() == b"1"
    s3.faults.extend([fault])
    storage.delete("a")
    assert s3.requests == ["PUT"] * 3 + ["GET"] * 4 + ["HEAD"] + ["GET"] * 2 + ["DELETE"] * 2


def test_the_retry_budget_is_bounded(s3: FaultyS3) -> None:
    storage = Storage("s3://clips/run", retry_s=2)
    storage.put_bytes("warm", b"")
    s3.requests.clear()
    s3.faults.extend([503] * 10_000)
    text = failure(lambda: storage.put_bytes("a", b"1"))
    assert text.startswith("cannot write s3://clips/run/a: the service answers SlowDown: ")
    assert text.endswith(f"(tried {len(s3.requests)} times)")
    assert len(s3.requests) > 1


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


def test_no_credentials_and_no_endpoint_are_said(
    s3: FaultyS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr("pipeline.storage.PROBE_RETRY_S", 0.1)
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
