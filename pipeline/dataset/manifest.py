"""The record of a run, `runs/{run_id}.json`: written at its start, regularly, and at its end."""

from __future__ import annotations

import datetime
import functools
import json
import logging
import math
import os
import re
import secrets
import socket
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

from pipeline.dataset.versions import versions
from pipeline.errors import StorageError
from pipeline.redaction import redacted
from pipeline.storage.storage import Storage

State = Literal["running", "done", "interrupted", "error"]

SIGN_EVERY_S = 60.0
"""Seconds between two signs of life of a run."""

THREADS = 16
"""Manifests that are read at once."""

_logger = logging.getLogger(__name__)
_MANIFEST = re.compile(r"runs/\d{8}T\d{6}Z[^/]*(?<!\.attempts)\.json")
_TIMED = re.compile(r"\d{8}T\d{6}Z-")


def new_run_id(storage: Storage, job: str = "") -> str:
    """Name a run: sortable by time, and unique in its prefix.

    A run in a cluster job carries the id of the job, so that job, logs and output share one name.
    The time is put before it unless it begins with one. An id that this prefix has seen already
    (the same job again on another cluster) gets some random digits, because runs with equal names
    would replace each other's parts. Outside of a job: `20260131T235959Z-1a2b3c`.

    Args:
        storage: The output prefix.
        job: Id of the cluster job, "" outside of one; letters, digits, `_` and `-` only.

    Raises:
        StorageError: The prefix cannot be read.
    """
    now = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
    if not job:
        return f"{now}-{secrets.token_hex(3)}"
    run_id = job if _TIMED.match(job) else f"{now}-{job}"
    if storage.exists(f"runs/{run_id}.json"):
        return f"{run_id}-{secrets.token_hex(3)}"
    return run_id


class Search(TypedDict):
    """What a run notes of an earlier run for whose clips it searched.

    `lost` holds the numbers, or of a Dataset the names, of the parts that were missing then.
    """

    seen_at: str
    over: bool
    lost: NotRequired[list[int | str]]


@dataclass(slots=True)
class Manifest:
    """What ran, on what, and how it ended.

    If `state` is still `running`, the run is alive or was killed.

    Attributes:
        run_id: See `new_run_id`.
        config: The resolved configuration; a run of it does the same again.
        cache: What its cache section came to: quality, policy, error or budget, and the profile.
        input: Counts of the input: rows read, duplicates, rejected, already done, to make.
        state: Whether it runs, or how it ended.
        result: Counts and sums of what was made.
        error: One line if `state` is `error`.
        started_at: ISO time, UTC.
        seen_at: ISO time, UTC, of the latest sign of life.
        where: Host and process of the driver.
        ended_at: ISO time, UTC; "" while running.
        searched: Runs that had not ended well or lacked parts when this run began, and for whose
            clips it searched: when each had given its latest sign of life, and whether it was over
            by then.
        parts: Parquet parts that it wrote; None while running, and where it did not record them.
        named_parts: Names of the parts that a Dataset wrote, behind its run id: its tasks write
            them, and cannot number them. None for other runs, while running, and where it did not
            record them.
        versions: Library versions of the driver.
    """

    run_id: str
    config: Mapping[str, Any]
    input: Mapping[str, Any]
    state: State = "running"
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    started_at: str = field(default_factory=lambda: _now())
    seen_at: str = field(default_factory=lambda: _now())
    where: str = field(default_factory=lambda: f"{socket.gethostname()}/{os.getpid()}")
    ended_at: str = ""
    searched: Mapping[str, Search] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    cache: Mapping[str, Any] = field(default_factory=dict)
    parts: int | None = None
    named_parts: Sequence[str] | None = None

    def write(self, storage: Storage) -> None:
        """Write the manifest as it is now, without credentials in URLs.

        Raises:
            StorageError: The prefix cannot be written.
        """
        text = json.dumps(redacted(asdict(self)), indent=2, sort_keys=True) + "\n"
        storage.put_bytes(f"runs/{self.run_id}.json", text.encode())

    @contextmanager
    def alive(self, storage: Storage, every_s: float = SIGN_EVERY_S) -> Iterator[None]:
        """Write a sign of life regularly, from a thread of its own, inside the block."""
        stop = threading.Event()

        def sign() -> None:
            while not stop.wait(every_s):
                self.seen_at = _now()
                try:
                    self.write(storage)
                except StorageError as error:  # the run will meet and report the same error
                    _logger.warning("no sign of life: %s", error)

        thread = threading.Thread(target=sign, name="sign-of-life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def end(
        self, storage: Storage, state: State, result: Mapping[str, Any], error: str = ""
    ) -> None:
        """Record the outcome."""
        self.state, self.result, self.error, self.ended_at = state, result, error, _now()
        self.write(storage)


def end_for(storage: Storage, run_id: str, error: str) -> None:
    """Record the end of a run whose driver could not; nothing if it has ended.

    Raises:
        StorageError: The manifest cannot be read or written.
    """
    key = f"runs/{run_id}.json"
    found = json.loads(storage.read_bytes(key))
    if found["state"] == "running":
        found |= {"state": "error", "error": error, "ended_at": _now()}
        storage.put_bytes(key, (json.dumps(found, indent=2, sort_keys=True) + "\n").encode())


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Whether a run is alive, as its manifest tells.

    Attributes:
        run_id: Of the run.
        state: As in the manifest.
        age_s: Seconds since its end or its latest sign of life; infinite if unknown.
        where: Host and process of its driver.
        seen_at: Time of its latest sign of life, as its own clock says.
        span_s: Seconds from its beginning to that sign, by its own clock.
        searched: See `Manifest`.
        config: See `Manifest`.
        columns: Columns that its rows could keep in `source`; None where it did not record them.
        parts: See `Manifest`.
        named_parts: See `Manifest`.
    """

    run_id: str
    state: str
    age_s: float
    where: str
    seen_at: str = ""
    span_s: float = 0.0
    searched: Mapping[str, Search] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    columns: frozenset[str] | None = None
    parts: int | None = None
    named_parts: frozenset[str] = frozenset()

    @property
    def alive(self) -> bool:
        """Whether it may be running now."""
        recent = self.state == "running" and self.age_s < 3 * SIGN_EVERY_S
        return recent and not _is_gone(self.where)

    def is_over(self, runs: Collection[RunStatus]) -> bool:
        """Whether it surely makes nothing any more; decided without comparing two clocks.

        Args:
            runs: All runs of the prefix. If one of them found this run and lived for some time,
                and this run has given no sign of life since, this run has been killed.
        """
        return (
            self.state != "running"
            or _is_gone(self.where)
            or any(
                run.span_s >= 3 * SIGN_EVERY_S
                and (found := run.searched.get(self.run_id)) is not None
                and found["seen_at"] == self.seen_at
                for run in runs
            )
        )


def _is_gone(where: str) -> bool:
    """Whether a process was on this host and has ended; False for processes of other hosts."""
    host, _, pid = where.rpartition("/")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)  # sends nothing; macOS has no /proc to look into
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's
        pass
    return False


def all_runs(storage: Storage, known: Collection[str] = ()) -> list[RunStatus]:
    """The status of the runs into a prefix, newest first as far as their clocks agree.

    Args:
        storage: The output prefix.
        known: Ids of runs to leave out.

    Raises:
        StorageError: The prefix cannot be read, or a manifest is damaged.
    """
    keys = [entry.key for entry in storage.list("runs/") if _MANIFEST.fullmatch(entry.key)]
    wanted = [key for key in sorted(keys, reverse=True) if _run_id(key) not in known]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(functools.partial(_status, storage), wanted))


def _status(storage: Storage, key: str) -> RunStatus:
    try:
        return status_of(_run_id(key), json.loads(storage.read_bytes(key)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{storage.uri}/{key} is damaged ({error}); move it away") from error


def status_of(run_id: str, found: Mapping[str, Any]) -> RunStatus:
    """The status of a run by its stored manifest.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: It is no manifest.
    """
    seen_at = found.get("ended_at") or found.get("seen_at") or ""
    age_s, began_s = _age_s(seen_at), _age_s(found.get("started_at"))
    columns = (found.get("input") or {}).get("columns")
    return RunStatus(
        run_id,
        found["state"],
        max(0.0, age_s),  # the clocks of two machines differ
        found.get("where", ""),
        seen_at,
        began_s - age_s if math.isfinite(began_s - age_s) else 0.0,
        found.get("searched", {}),
        found.get("config") or {},
        None if columns is None else frozenset(columns),
        found.get("parts"),
        frozenset(found.get("named_parts") or ()),
    )


def _run_id(key: str) -> str:
    return key.removeprefix("runs/").removesuffix(".json")


def _age_s(time: str | None) -> float:
    """Seconds since a time in ISO format; infinite without one."""
    if not time:
        return math.inf
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(time)
    return age.total_seconds()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
