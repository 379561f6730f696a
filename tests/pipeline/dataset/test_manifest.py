import json
import re
import uuid

import pytest
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

from pipeline.dataset.manifest import Manifest, new_run_id
from pipeline.storage.storage import Storage


def test_a_manifest_says_running_until_it_ends() -> None:
    storage = Storage(f"memory://manifest-{uuid.uuid4().hex}")
    manifest = Manifest("r1", {"model": "demo"}, {"read": 3})
    manifest.write(storage)
    first = json.loads(storage.read_bytes("runs/r1.json"))
    assert (first["state"], first["ended_at"]) == ("running", "")
    manifest.end(storage, "done", {"ok": 3})
    last = json.loads(storage.read_bytes("runs/r1.json"))
    assert (last["state"], last["result"], last["config"]) == ("done", {"ok": 3}, {"model": "demo"})
    assert last["ended_at"] >= last["started_at"] == first["started_at"]
    assert last["versions"]["torch"]


def test_run_ids_sort_by_time_and_differ() -> None:
    storage = Storage(f"memory://manifest-{uuid.uuid4().hex}")
    ids = [new_run_id(storage, {}) for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", run_id) for run_id in ids)
    assert [run_id[:16] for run_id in ids] == sorted(run_id[:16] for run_id in ids)


def in_a_job(submission_id: str) -> dict[str, str]:
    job = {"runtime_env": {}, "metadata": {"job_submission_id": submission_id}}
    return {RAY_JOB_CONFIG_JSON_ENV_VAR: json.dumps(job)}


def test_in_a_ray_job_the_run_carries_the_submission_id() -> None:
    storage = Storage(f"memory://manifest-{uuid.uuid4().hex}")
    timed = "20260131T235959Z-wan"
    assert new_run_id(storage, in_a_job(timed)) == timed
    assert re.fullmatch(r"\d{8}T\d{6}Z-wan", new_run_id(storage, in_a_job("wan")))
    assert re.fullmatch(r"\d{8}T\d{6}Z-a-b", new_run_id(storage, in_a_job("a/../b")))


def test_a_submission_id_that_the_prefix_has_seen_is_not_used_again() -> None:
    storage = Storage(f"memory://manifest-{uuid.uuid4().hex}")
    job = in_a_job("20260131T235959Z-wan")
    Manifest(new_run_id(storage, job), {}, {}).write(storage)
    assert re.fullmatch(r"20260131T235959Z-wan-[0-9a-f]{6}", new_run_id(storage, job))


@pytest.mark.parametrize("described", ["", "{}", "[]", "null", '{"metadata": null}', "{torn"])
def test_a_description_that_names_no_job_is_none(described: str) -> None:
    storage = Storage(f"memory://manifest-{uuid.uuid4().hex}")
    run_id = new_run_id(storage, {RAY_JOB_CONFIG_JSON_ENV_VAR: described})
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", run_id)
