import json
import re
import uuid
from typing import Any

import pytest

from pipeline.calibration.measurement import ChosenProfile
from pipeline.config.cache_section import CacheConfig
from pipeline.dataset.manifest import Manifest, new_run_id
from pipeline.requests.run_settings import cache_used
from pipeline.storage.storage import Storage
from sencache.measuring import prior_profile


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


@pytest.mark.parametrize(
    ("given", "cache"),
    [
        ({}, {"quality": "balanced", "policy": "planned", "max_error": 0.01}),
        ({"max_error": 0.02}, {"quality": "fast", "policy": "planned", "max_error": 0.02}),
        ({"quality": "lossless"}, {"quality": "lossless", "policy": "none"}),
        ({"budget": 0.3}, {"quality": "", "policy": "planned", "budget": 0.3}),
        ({"max_reuse": 2}, {"quality": "", "policy": "paper", "epsilon": 0.1}),
        ({"order": 0}, {"quality": "", "policy": "planned", "max_error": 0.01}),
    ],
)
def test_what_a_cache_section_came_to_is_recorded(
    given: dict[str, Any], cache: dict[str, Any]
) -> None:
    profile = prior_profile("flow")
    chosen = ChosenProfile("prior", profile)
    found = cache_used(CacheConfig.model_validate(given), chosen)
    assert found == cache | {"profile": profile.hash, "profile_source": "prior"}
    nothing = cache_used(CacheConfig.model_validate(given), ChosenProfile())
    assert (nothing["profile"], nothing["profile_source"]) == ("", "")


def test_run_ids_sort_by_time_and_differ() -> None:
    storage = Storage(f"memory://manifest-{uuid.uuid4().hex}")
    ids = [new_run_id(storage) for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", run_id) for run_id in ids)
    assert [run_id[:16] for run_id in ids] == sorted(run_id[:16] for run_id in ids)


def test_in_a_job_the_run_carries_its_id() -> None:
    storage = Storage(f"memory://manifest-{uuid.uuid4().hex}")
    timed = "20260131T235959Z-wan"
    assert new_run_id(storage, timed) == timed
    assert re.fullmatch(r"\d{8}T\d{6}Z-wan", new_run_id(storage, "wan"))


def test_a_job_that_the_prefix_has_seen_gives_another_id() -> None:
    storage = Storage(f"memory://manifest-{uuid.uuid4().hex}")
    job = "20260131T235959Z-wan"
    Manifest(new_run_id(storage, job), {}, {}).write(storage)
    assert re.fullmatch(r"20260131T235959Z-wan-[0-9a-f]{6}", new_run_id(storage, job))
